// Writes record batches and a producer snapshot with Apache Kafka's own classes, and describes such files.
//
//   java -cp 'LIBS/*' RecordBatches.java write DIRECTORY    one file per case, each with its description as .txt
//   java -cp 'LIBS/*' RecordBatches.java describe FILE...   the descriptions on stdout; fails on a bad checksum

import java.io.File;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.OptionalLong;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.message.KRaftVersionRecord;
import org.apache.kafka.common.message.LeaderChangeMessage;
import org.apache.kafka.common.message.SnapshotFooterRecord;
import org.apache.kafka.common.message.SnapshotHeaderRecord;
import org.apache.kafka.common.message.VotersRecord;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.*;
import org.apache.kafka.storage.internals.log.ProducerStateEntry;
import org.apache.kafka.storage.internals.log.ProducerStateManager;

public class RecordBatches {
    static final long TIME = 1_700_000_000_000L;

    public static void main(String[] args) throws Exception {
        if (args[0].equals("write")) {
            write(Path.of(args[1]));
        } else {
            for (int i = 1; i < args.length; i++) System.out.print(describe(Path.of(args[i])));
        }
    }

    static void write(Path directory) throws Exception {
        for (CompressionType type : CompressionType.values()) {
            save(directory, "mixed-" + type.name, mixed(type));
            save(directory, "large-" + type.name, large(type));
        }
        save(directory, "append-time", appendTime());
        save(directory, "transactional", transactional());
        save(directory, "marker-commit", marker(ControlRecordType.COMMIT));
        save(directory, "marker-abort", marker(ControlRecordType.ABORT));
        save(directory, "leader-change", control(0));
        save(directory, "snapshot-header", control(1));
        save(directory, "snapshot-footer", control(2));
        snapshot(directory);
    }

    static void save(Path directory, String name, ByteBuffer batch) throws Exception {
        byte[] bytes = new byte[batch.remaining()];
        batch.duplicate().get(bytes);
        Path file = directory.resolve(name + ".bin");
        Files.write(file, bytes);
        Files.writeString(directory.resolve(name + ".txt"), describe(file));
    }

    static ByteBuffer mixed(CompressionType type) {
        MemoryRecordsBuilder builder = MemoryRecords.builder(ByteBuffer.allocate(1024), RecordBatch.MAGIC_VALUE_V2,
            Compression.of(type).build(), TimestampType.CREATE_TIME, 1000L, RecordBatch.NO_TIMESTAMP, 7);
        Header[] headers = {new RecordHeader("trace", bytes("abc")), new RecordHeader("null", null),
            new RecordHeader("empty", new byte[0]), new RecordHeader("gr\u00fc\u00dfe", bytes("\u2603"))};
        builder.append(TIME, bytes("key"), bytes("value"), new Header[0]);
        builder.append(TIME - 5, (byte[]) null, bytes("no key"), new Header[0]);
        builder.append(TIME + 100_000, bytes("tombstone"), null, new Header[0]);
        builder.append(TIME + 1, new byte[0], new byte[0], headers);
        builder.append(TIME + 2, (byte[]) null, null, new Header[0]);
        for (int i = 0; i < 200; i++) builder.append(TIME + i * 37L, bytes("k" + i), bytes("v".repeat(i)), new Header[0]);
        return builder.build().buffer();
    }

    static ByteBuffer large(CompressionType type) {
        byte[] noise = new byte[40_000];
        int state = 1;
        for (int i = 0; i < noise.length; i++) {
            state = state * 1_103_515_245 + 12_345;
            noise[i] = (byte) (state >> 16);
        }
        MemoryRecordsBuilder builder = MemoryRecords.builder(ByteBuffer.allocate(1024), RecordBatch.MAGIC_VALUE_V2,
            Compression.of(type).build(), TimestampType.CREATE_TIME, 0L, RecordBatch.NO_TIMESTAMP, 0);
        builder.append(TIME, bytes("noise"), noise, new Header[0]);
        if (type != CompressionType.NONE) {
            builder.append(TIME, bytes("zeros"), new byte[300_000], new Header[0]);
        }
        return builder.build().buffer();
    }

    static ByteBuffer appendTime() {
        MemoryRecordsBuilder builder = MemoryRecords.builder(ByteBuffer.allocate(1024), RecordBatch.MAGIC_VALUE_V2,
            Compression.NONE, TimestampType.LOG_APPEND_TIME, 5L, TIME + 99, 3);
        builder.append(TIME, bytes("a"), bytes("1"), new Header[0]);
        builder.append(TIME + 7, bytes("b"), bytes("2"), new Header[0]);
        return builder.build().buffer();
    }

    static ByteBuffer transactional() {
        MemoryRecordsBuilder builder = MemoryRecords.builder(ByteBuffer.allocate(1024), RecordBatch.MAGIC_VALUE_V2,
            Compression.NONE, TimestampType.CREATE_TIME, 5L, RecordBatch.NO_TIMESTAMP, 4001L, (short) 12,
            Integer.MAX_VALUE, true, 3);
        builder.append(TIME, bytes("a"), bytes("1"), new Header[0]);
        builder.append(TIME + 7, bytes("b"), bytes("2"), new Header[0]);
        return builder.build().buffer();
    }

    static ByteBuffer marker(ControlRecordType type) {
        return MemoryRecords.withEndTransactionMarker(77L, TIME, 3, 4001L, (short) 12,
            new EndTransactionMarker(type, 9)).buffer();
    }

    static ByteBuffer control(int kind) {
        MemoryRecordsBuilder builder = new MemoryRecordsBuilder(ByteBuffer.allocate(2048), RecordBatch.MAGIC_VALUE_V2,
            Compression.NONE, TimestampType.CREATE_TIME, 0L, TIME, -1L, (short) -1, -1, false, true, 3, 2048);
        switch (kind) {
            case 0 -> builder.appendLeaderChangeMessage(TIME, new LeaderChangeMessage().setVersion((short) 0)
                .setLeaderId(1)
                .setVoters(List.of(new LeaderChangeMessage.Voter().setVoterId(1)))
                .setGrantingVoters(List.of(new LeaderChangeMessage.Voter().setVoterId(1))));
            case 1 -> {
                builder.appendSnapshotHeaderMessage(TIME,
                    new SnapshotHeaderRecord().setVersion((short) 0).setLastContainedLogTimestamp(TIME - 1));
                builder.appendKRaftVersionMessage(TIME,
                    new KRaftVersionRecord().setVersion((short) 0).setKRaftVersion((short) 1));
                builder.appendVotersMessage(TIME, new VotersRecord().setVersion((short) 0).setVoters(
                    List.of(new VotersRecord.Voter().setVoterId(1).setVoterDirectoryId(new Uuid(3, 4))
                        .setEndpoints(new VotersRecord.EndpointCollection(List.of(new VotersRecord.Endpoint()
                            .setName("CONTROLLER").setHost("localhost").setPort(9093)).iterator()))
                        .setKRaftVersionFeature(new VotersRecord.KRaftVersionFeature()
                            .setMinSupportedVersion((short) 0).setMaxSupportedVersion((short) 1)))));
            }
            default -> builder.appendSnapshotFooterMessage(TIME, new SnapshotFooterRecord().setVersion((short) 0));
        }
        return builder.build().buffer();
    }

    static void snapshot(Path directory) throws Exception {
        var method = ProducerStateManager.class.getDeclaredMethod("writeSnapshot", File.class, java.util.Map.class,
            boolean.class);
        method.setAccessible(true);
        var entries = new java.util.TreeMap<Long, ProducerStateEntry>();
        entries.put(1L, new ProducerStateEntry(1L, (short) 3, 5, TIME, OptionalLong.of(42)));
        entries.put(2L, new ProducerStateEntry(2L, (short) 0, -1, TIME + 1, OptionalLong.empty()));
        Path file = directory.resolve("producers.snapshot");
        method.invoke(null, file.toFile(), entries, true);
        Files.writeString(directory.resolve("producers.txt"), describe(file));
    }

    static String describe(Path file) throws Exception {
        StringBuilder out = new StringBuilder();
        if (file.toString().endsWith(".snapshot")) {
            List<String> lines = new ArrayList<>();
            for (ProducerStateEntry entry : ProducerStateManager.readSnapshot(file.toFile())) {
                lines.add("producer " + entry.producerId() + " epoch " + entry.producerEpoch() + " coordinator "
                    + entry.coordinatorEpoch() + " timestamp " + entry.lastTimestamp() + " last "
                    + entry.lastDataOffset() + " first " + entry.firstDataOffset() + " transaction "
                    + entry.currentTxnFirstOffset().orElse(-1) + "\n");
            }
            lines.sort(null);
            return String.join("", lines);
        }
        MemoryRecords records = MemoryRecords.readableRecords(ByteBuffer.wrap(Files.readAllBytes(file)));
        for (RecordBatch batch : records.batches()) {
            batch.ensureValid();
            out.append("batch ").append(batch.baseOffset()).append("..").append(batch.lastOffset())
                .append(" count ").append(batch.countOrNull()).append(" codec ").append(batch.compressionType().id)
                .append(" type ").append(batch.timestampType().id).append(" max ").append(batch.maxTimestamp())
                .append(" leader ").append(batch.partitionLeaderEpoch()).append(" producer ").append(batch.producerId())
                .append(":").append(batch.producerEpoch()).append(":").append(batch.baseSequence()).append(":")
                .append(batch.lastSequence()).append(batch.isTransactional() ? " transactional" : "")
                .append(batch.isControlBatch() ? " control" : "").append("\n");
            for (org.apache.kafka.common.record.internal.Record record : batch) {
                out.append("record ").append(record.offset()).append(" ").append(record.timestamp()).append(" ")
                    .append(show(record.key())).append(" ").append(show(record.value()));
                for (Header header : record.headers()) {
                    out.append(" ").append(show(ByteBuffer.wrap(bytes(header.key())))).append("=")
                        .append(header.value() == null ? "null" : show(ByteBuffer.wrap(header.value())));
                }
                out.append("\n");
            }
        }
        return out.toString();
    }

    static String show(ByteBuffer buffer) throws Exception {
        if (buffer == null) return "null";
        byte[] bytes = new byte[buffer.remaining()];
        buffer.duplicate().get(bytes);
        if (bytes.length <= 40) return "x" + HexFormat.of().formatHex(bytes);
        byte[] digest = MessageDigest.getInstance("SHA-256").digest(bytes);
        return bytes.length + "#" + HexFormat.of().formatHex(digest, 0, 8);
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }
}
