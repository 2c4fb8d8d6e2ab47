/* Put before libc by LD_PRELOAD: every sync of a file does what the file named by OTTLA_SHIM says, re-read each time:
 * "sleep MILLISECONDS" (a slow disk), "fail" (EIO), or anything else for a sync that changes nothing. Asynchronous
 * syncs pass libc by, so there are none: io_setup is not implemented here. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

static int ask(void) {
    const char *path = getenv("OTTLA_SHIM");
    FILE *file = path ? fopen(path, "r") : NULL;
    char word[16] = "";
    long milliseconds = 0;
    if (!file) return 0;
    if (fscanf(file, "%15s %ld", word, &milliseconds) < 1) word[0] = 0;
    fclose(file);
    if (!strcmp(word, "sleep")) {
        struct timespec pause = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
        nanosleep(&pause, NULL);
    }
    if (strcmp(word, "fail")) return 0;
    errno = EIO;
    return -1;
}

int fsync(int fd) {
    return ask() ? -1 : ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}

int fdatasync(int fd) {
    return ask() ? -1 : ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}

long syscall(long number, ...) {
    long arguments[6];
    va_list list;
    if (number == SYS_io_setup) {
        errno = ENOSYS;
        return -1;
    }
    va_start(list, number);
    for (int index = 0; index < 6; index++) arguments[index] = va_arg(list, long);
    va_end(list);
    return ((long (*)(long, ...))dlsym(RTLD_NEXT, "syscall"))(
        number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
}
