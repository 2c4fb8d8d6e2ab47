/* Load through librdkafka in C, so that the client's language is not what is measured.
 *
 * The declarations below are the few parts of librdkafka's public interface that this program calls; it is linked
 * with the library inside the confluent-kafka wheel, which ships no header. Prints one JSON object.
 *
 *   rdkafka_load produce BOOTSTRAP TOPIC PARTITIONS COUNT SIZE [key=value ...]
 *   rdkafka_load consume BOOTSTRAP TOPIC PARTITIONS COUNT      [key=value ...]
 *   rdkafka_load latency BOOTSTRAP TOPIC RATE       COUNT SIZE [key=value ...]
 *   rdkafka_load first   BOOTSTRAP TOPIC                       [key=value ...]
 *   rdkafka_load commit  BOOTSTRAP TOPIC PARTITIONS COUNT SIZE RECORDS [key=value ...]
 *
 * commit: transactions of RECORDS records each, COUNT of them; transactional.id has to be among the options.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

typedef struct rd_kafka_s rd_kafka_t;
typedef struct rd_kafka_conf_s rd_kafka_conf_t;
typedef struct rd_kafka_topic_s rd_kafka_topic_t;
typedef struct rd_kafka_topic_conf_s rd_kafka_topic_conf_t;
typedef struct rd_kafka_queue_s rd_kafka_queue_t;
typedef struct rd_kafka_message_s {
    int err;
    rd_kafka_topic_t *rkt;
    int32_t partition;
    void *payload;
    size_t len;
    void *key;
    size_t key_len;
    int64_t offset;
    void *opaque;
} rd_kafka_message_t;

rd_kafka_conf_t *rd_kafka_conf_new(void);
int rd_kafka_conf_set(rd_kafka_conf_t *, const char *, const char *, char *, size_t);
void rd_kafka_conf_set_dr_msg_cb(rd_kafka_conf_t *, void (*)(rd_kafka_t *, const rd_kafka_message_t *, void *));
rd_kafka_t *rd_kafka_new(int type, rd_kafka_conf_t *, char *, size_t);
rd_kafka_topic_t *rd_kafka_topic_new(rd_kafka_t *, const char *, rd_kafka_topic_conf_t *);
int rd_kafka_produce(rd_kafka_topic_t *, int32_t, int, void *, size_t, const void *, size_t, void *);
int rd_kafka_poll(rd_kafka_t *, int);
int rd_kafka_flush(rd_kafka_t *, int);
int rd_kafka_last_error(void);
const char *rd_kafka_err2str(int);
typedef struct rd_kafka_error_s rd_kafka_error_t;
rd_kafka_error_t *rd_kafka_init_transactions(rd_kafka_t *, int);
rd_kafka_error_t *rd_kafka_begin_transaction(rd_kafka_t *);
rd_kafka_error_t *rd_kafka_commit_transaction(rd_kafka_t *, int);
const char *rd_kafka_error_string(const rd_kafka_error_t *);
rd_kafka_queue_t *rd_kafka_queue_new(rd_kafka_t *);
int rd_kafka_consume_start_queue(rd_kafka_topic_t *, int32_t, int64_t, rd_kafka_queue_t *);
ssize_t rd_kafka_consume_batch_queue(rd_kafka_queue_t *, int, rd_kafka_message_t **, size_t);
int rd_kafka_consume_stop(rd_kafka_topic_t *, int32_t);
void rd_kafka_message_destroy(rd_kafka_message_t *);

enum { PRODUCER = 0, CONSUMER = 1, COPY = 2, QUEUE_FULL = -184, PARTITION_EOF = -191, FROM_START = -2, FROM_END = -1 };

static int64_t delivered, failed;
static int first_error;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double cpu(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque) {
    (void)rk;
    (void)opaque;
    delivered++;
    if (message->err) {
        failed++;
        first_error = message->err;
    }
}

static rd_kafka_t *client(int type, const char *bootstrap, int count, char **options) {
    char error[512];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", bootstrap, error, sizeof error);
    rd_kafka_conf_set(conf, "log_level", "0", error, sizeof error);
    if (type == PRODUCER) {
        rd_kafka_conf_set(conf, "queue.buffering.max.messages", "1000000", error, sizeof error);
        rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    } else {
        rd_kafka_conf_set(conf, "queued.min.messages", "1000000", error, sizeof error);
    }
    for (int i = 0; i < count; i++) {
        char *value = strchr(options[i], '=');
        if (!value) continue;
        *value++ = 0;
        if (rd_kafka_conf_set(conf, options[i], value, error, sizeof error)) {
            fprintf(stderr, "%s\n", error);
            exit(2);
        }
        value[-1] = '=';
    }
    rd_kafka_t *rk = rd_kafka_new(type, conf, error, sizeof error);
    if (!rk) {
        fprintf(stderr, "%s\n", error);
        exit(2);
    }
    return rk;
}

static void send_one(rd_kafka_t *rk, rd_kafka_topic_t *topic, int32_t partition, char *payload, size_t size) {
    while (rd_kafka_produce(topic, partition, COPY, payload, size, NULL, 0, NULL)) {
        if (rd_kafka_last_error() != QUEUE_FULL) {
            fprintf(stderr, "%s\n", rd_kafka_err2str(rd_kafka_last_error()));
            exit(1);
        }
        rd_kafka_poll(rk, 1);
    }
}

static void finish(rd_kafka_t *rk) {
    rd_kafka_flush(rk, 120000);
    if (failed) {
        fprintf(stderr, "%lld failed: %s\n", (long long)failed, rd_kafka_err2str(first_error));
        exit(1);
    }
}

static int produce(int argc, char **argv) {
    int partitions = atoi(argv[4]);
    int64_t count = atoll(argv[5]);
    size_t size = (size_t)atoll(argv[6]);
    rd_kafka_t *rk = client(PRODUCER, argv[2], argc - 7, argv + 7);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, argv[3], NULL);
    char *payload = malloc(size);
    srand(1);
    for (size_t i = 0; i < size; i++) payload[i] = (char)(rand() & 0xff);
    for (int p = 0; p < partitions; p++) send_one(rk, topic, p, payload, size); /* metadata, producer id, connection */
    finish(rk);
    double begin = now(), used = cpu();
    for (int64_t i = 0; i < count; i++) {
        send_one(rk, topic, (int32_t)(i % partitions), payload, size);
        if (!(i & 1023)) rd_kafka_poll(rk, 0);
    }
    finish(rk);
    printf("{\"records\": %lld, \"seconds\": %.6f, \"client_cpu\": %.3f}\n", (long long)count, now() - begin, cpu() - used);
    return 0;
}

static int consume(int argc, char **argv) {
    int partitions = atoi(argv[4]);
    int64_t count = atoll(argv[5]), got = 0, bytes = 0;
    static rd_kafka_message_t *messages[10000];
    rd_kafka_t *rk = client(CONSUMER, argv[2], argc - 6, argv + 6);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, argv[3], NULL);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    double start = now(), begin = 0, used = 0, deadline = start + 120;
    for (int p = 0; p < partitions; p++) rd_kafka_consume_start_queue(topic, p, FROM_START, queue);
    while (got < count && now() < deadline) {
        ssize_t n = rd_kafka_consume_batch_queue(queue, 100, messages, 10000);
        for (ssize_t i = 0; i < n; i++) {
            if (!messages[i]->err) {
                if (!got++) {
                    begin = now(); /* from the first record on: connecting is not consuming */
                    used = cpu();
                }
                bytes += (int64_t)messages[i]->len;
            } else if (messages[i]->err != PARTITION_EOF) {
                fprintf(stderr, "%s\n", rd_kafka_err2str(messages[i]->err));
            }
            rd_kafka_message_destroy(messages[i]);
        }
    }
    printf("{\"records\": %lld, \"bytes\": %lld, \"seconds\": %.6f, \"client_cpu\": %.3f}\n", (long long)got,
           (long long)bytes, now() - begin, cpu() - used);
    return got < count;
}

/* Two clients in one process: what is sent carries its time, and is read back by another connection. */
struct reading {
    rd_kafka_topic_t *topic;
    rd_kafka_queue_t *queue;
    int64_t count;
    double *delays;
};

static void *read_back(void *argument) {
    struct reading *reading = argument;
    rd_kafka_message_t *message;
    for (int64_t got = 0; got < reading->count;) {
        if (rd_kafka_consume_batch_queue(reading->queue, 20000, &message, 1) <= 0) break;
        if (!message->err) {
            double sent;
            memcpy(&sent, message->payload, sizeof sent);
            if (sent > 0) reading->delays[got++] = now() - sent;
        }
        rd_kafka_message_destroy(message);
    }
    return NULL;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int latency(int argc, char **argv) {
    double rate = atof(argv[4]);
    int64_t count = atoll(argv[5]);
    size_t size = (size_t)atoll(argv[6]);
    char *quick[] = {strdup("fetch.wait.max.ms=500"), strdup("fetch.min.bytes=1")};
    rd_kafka_t *producer = client(PRODUCER, argv[2], argc - 7, argv + 7), *consumer = client(CONSUMER, argv[2], 2, quick);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(producer, argv[3], NULL);
    struct reading reading = {rd_kafka_topic_new(consumer, argv[3], NULL), rd_kafka_queue_new(consumer), count, NULL};
    reading.delays = calloc((size_t)count, sizeof(double));
    char *payload = calloc(1, size);
    for (int i = 0; i < 20; i++) send_one(producer, topic, 0, payload, size); /* warm-up: time 0 is not counted */
    finish(producer);
    rd_kafka_consume_start_queue(reading.topic, 0, FROM_START, reading.queue);
    pthread_t thread;
    pthread_create(&thread, NULL, read_back, &reading);
    struct timespec pause = {1, 0};
    nanosleep(&pause, NULL);
    double begin = now();
    for (int64_t i = 0; i < count; i++) {
        double due = begin + (double)i / rate, wait;
        while ((wait = due - now()) > 0) {
            struct timespec t = {0, (long)(wait * 1e9)};
            nanosleep(&t, NULL);
        }
        double sent = now();
        memcpy(payload, &sent, sizeof sent);
        send_one(producer, topic, 0, payload, size);
        rd_kafka_poll(producer, 0);
    }
    finish(producer);
    pthread_join(thread, NULL);
    qsort(reading.delays, (size_t)count, sizeof(double), by_size);
    printf("{\"records\": %lld, \"p50_ms\": %.4f, \"p99_ms\": %.4f, \"max_ms\": %.4f}\n", (long long)count,
           reading.delays[count / 2] * 1e3, reading.delays[count * 99 / 100] * 1e3, reading.delays[count - 1] * 1e3);
    return 0;
}

static int first(int argc, char **argv) {
    rd_kafka_t *rk = client(PRODUCER, argv[2], argc - 4, argv + 4);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, argv[3], NULL);
    send_one(rk, topic, 0, "first", 5);
    double deadline = now() + 60;
    while (!delivered && now() < deadline) rd_kafka_poll(rk, 1);
    printf("{\"records\": %lld, \"monotonic\": %.6f}\n", (long long)(delivered - failed), now());
    return delivered && !failed ? 0 : 1;
}

static void must(rd_kafka_error_t *error, const char *what) {
    if (!error) return;
    fprintf(stderr, "%s: %s\n", what, rd_kafka_error_string(error));
    exit(1);
}

static int commit(int argc, char **argv) {
    int partitions = atoi(argv[4]);
    int64_t count = atoll(argv[5]), records = atoll(argv[7]);
    size_t size = (size_t)atoll(argv[6]);
    rd_kafka_t *rk = client(PRODUCER, argv[2], argc - 8, argv + 8);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, argv[3], NULL);
    char *payload = malloc(size);
    srand(1);
    for (size_t i = 0; i < size; i++) payload[i] = (char)(rand() & 0xff);
    must(rd_kafka_init_transactions(rk, 30000), "init");
    double begin = 0, *delays = calloc((size_t)count, sizeof(double));
    for (int64_t i = -5; i < count; i++) { /* the first five warm up: metadata, connections, the topic of transactions */
        if (!i) begin = now();
        double started = now();
        must(rd_kafka_begin_transaction(rk), "begin");
        for (int64_t j = 0; j < records; j++) send_one(rk, topic, (int32_t)(j % partitions), payload, size);
        must(rd_kafka_commit_transaction(rk, 30000), "commit");
        if (i >= 0) delays[i] = now() - started;
    }
    double seconds = now() - begin;
    qsort(delays, (size_t)count, sizeof(double), by_size);
    printf("{\"records\": %lld, \"seconds\": %.6f, \"p50_ms\": %.4f, \"p99_ms\": %.4f}\n", (long long)(count * records),
           seconds, delays[count / 2] * 1e3, delays[count * 99 / 100] * 1e3);
    return 0;
}

int main(int argc, char **argv) {
    const char *mode = argc > 3 ? argv[1] : "";
    if (!strcmp(mode, "produce") && argc > 6) return produce(argc, argv);
    if (!strcmp(mode, "consume") && argc > 5) return consume(argc, argv);
    if (!strcmp(mode, "latency") && argc > 6) return latency(argc, argv);
    if (!strcmp(mode, "commit") && argc > 7) return commit(argc, argv);
    if (!strcmp(mode, "first")) return first(argc, argv);
    fprintf(stderr, "usage: see the top of rdkafka_load.c\n");
    return 2;
}
