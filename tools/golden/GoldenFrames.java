import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.File;
import java.io.FileOutputStream;
import java.lang.reflect.Method;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.zip.Deflater;
import java.util.zip.DeflaterOutputStream;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.ObjectSerializationCache;
import org.apache.kafka.common.protocol.types.RawTaggedField;
import org.apache.kafka.common.record.internal.MemoryRecords;

/**
 * Writes tests/data/golden/messages.bin: what Apache Kafka's own classes make of filled-in messages, for every message
 * and version. Run by hand with the jars of Kafka on the class path:
 *
 *   java -cp 'JARDIR/*' tools/golden/GoldenFrames.java tools/messages/schemas.json tests/data/golden/messages.bin
 *
 * The file is one zlib stream of entries: name and json (2 and 4 byte length, UTF-8), version (2 bytes), frame (4 byte
 * length). The json is what Kafka's converter says of the message; empty where it would only repeat.
 */
public final class GoldenFrames {
    private static final String[] PACKAGES = {
        "org.apache.kafka.common.message.",
        "org.apache.kafka.common.metadata.",
        "org.apache.kafka.coordinator.group.generated.",
        "org.apache.kafka.coordinator.transaction.generated.",
        "org.apache.kafka.coordinator.share.generated.",
        "org.apache.kafka.server.log.remote.metadata.storage.generated.",
        "org.apache.kafka.raft.generated.",
    };
    private static final int DEFAULT = 0;
    private static final int FILLED = 1;
    private static final int MIXED = 2;
    private static final int VARIANTS = 6;

    private final Random random = new Random(431);
    private final Map<String, JsonNode> commonStructs = new HashMap<>();
    private JsonNode flexible;
    private int variant;
    private int version;

    public static void main(String[] arguments) throws Exception {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        DataOutputStream out = new DataOutputStream(bytes);
        int count = 0;
        for (JsonNode schema : new ObjectMapper().readTree(new File(arguments[0]))) {
            count += new GoldenFrames().all(schema, out);
        }
        Deflater deflater = new Deflater(9);
        try (DeflaterOutputStream file = new DeflaterOutputStream(new FileOutputStream(arguments[1]), deflater)) {
            bytes.writeTo(file);
        }
        System.out.println(count + " frames, " + bytes.size() + " bytes");
    }

    private int all(JsonNode schema, DataOutputStream out) throws Exception {
        int[] valid = versions(schema.get("validVersions"));
        flexible = schema.get("flexibleVersions");
        random.setSeed(schema.get("name").asText().hashCode());
        if (schema.has("commonStructs")) {
            for (JsonNode struct : schema.get("commonStructs")) {
                commonStructs.put(struct.get("name").asText(), struct.get("fields"));
            }
        }
        int count = 0;
        for (version = valid[0]; version <= valid[1]; version++) {
            for (variant = DEFAULT; variant < VARIANTS; variant++) {
                count += one(schema, out, version == valid[1] || version == valid[0]);
            }
        }
        return count;
    }

    private int one(JsonNode schema, DataOutputStream out, boolean withJson) throws Exception {
        String name = schema.get("name").asText();
        Class<?> type = find(name);
        Message message = (Message) type.getDeclaredConstructor().newInstance();
        if (variant != DEFAULT) {
            fill(message, schema.get("fields"));
        }
        ByteBuffer frame;
        try {
            ObjectSerializationCache cache = new ObjectSerializationCache();
            frame = ByteBuffer.allocate(message.size(cache, (short) version));
            message.write(new ByteBufferAccessor(frame), cache, (short) version);
        } catch (NullPointerException unwritableDefault) {
            if (variant != DEFAULT) {
                throw unwritableDefault;
            }
            return 0;
        }
        if (frame.remaining() != 0) {
            throw new IllegalStateException(name + " " + version + " has left " + frame.remaining());
        }
        out.writeUTF(name);
        byte[] json = withJson && variant != DEFAULT ? json(type, message) : new byte[0];
        out.writeInt(json.length);
        out.write(json);
        out.writeShort(version);
        out.writeInt(frame.capacity());
        out.write(frame.array());
        return 1;
    }

    private byte[] json(Class<?> type, Message message) throws Exception {
        Class<?> converter = Class.forName(type.getName() + "JsonConverter");
        Object node = converter.getMethod("write", type, short.class).invoke(null, message, (short) version);
        return node.toString().getBytes(StandardCharsets.UTF_8);
    }

    private Class<?> find(String name) throws ClassNotFoundException {
        for (String prefix : PACKAGES) {
            for (String suffix : new String[] {"Data", ""}) {
                try {
                    Class<?> found = Class.forName(prefix + name + suffix);
                    if (Message.class.isAssignableFrom(found)) {
                        return found;
                    }
                } catch (ClassNotFoundException next) {
                    continue;
                }
            }
        }
        throw new ClassNotFoundException(name);
    }

    private void fill(Message message, JsonNode fields) throws Exception {
        for (JsonNode field : fields) {
            JsonNode range = field.has("versions") ? field.get("versions") : field.get("taggedVersions");
            if (within(range)) {
                set(message, field);
            }
        }
        if (within(flexible) && variant >= MIXED && random.nextInt(4) == 0) {
            message.unknownTaggedFields().add(new RawTaggedField(1000, new byte[] {1, 2, 3}));
            message.unknownTaggedFields().add(new RawTaggedField(70_000, new byte[0]));
        }
    }

    private void set(Message message, JsonNode field) throws Exception {
        boolean nullable = within(field.get("nullableVersions"));
        boolean tagged = within(field.get("taggedVersions"));
        if (variant >= MIXED && tagged && random.nextBoolean()) {
            return;
        }
        String name = field.get("name").asText();
        String setter = "set" + Character.toUpperCase(name.charAt(0)) + name.substring(1);
        for (Method method : message.getClass().getMethods()) {
            if (method.getName().equals(setter) && method.getParameterCount() == 1) {
                boolean none = nullable && variant >= MIXED && random.nextInt(3) == 0;
                method.invoke(message, none ? null : value(message, field, method.getParameterTypes()[0]));
                return;
            }
        }
        throw new NoSuchMethodException(message.getClass() + "." + setter);
    }

    private Object value(Message owner, JsonNode field, Class<?> wanted) throws Exception {
        String type = field.get("type").asText();
        if (!type.startsWith("[]")) {
            return single(owner, field, type, wanted);
        }
        String element = type.substring(2);
        Collection<Object> items = collection(wanted);
        int count = variant == FILLED ? 1 + random.nextInt(2) : random.nextInt(3);
        if (element.equals("int32") && random.nextInt(3) == 0) {
            count = 20;
        }
        for (int i = 0; i < count; i++) {
            items.add(single(owner, field, element, null));
        }
        return items;
    }

    @SuppressWarnings("unchecked")
    private Collection<Object> collection(Class<?> wanted) throws Exception {
        if (wanted.isInterface()) {
            return new ArrayList<>();
        }
        return (Collection<Object>) wanted.getDeclaredConstructor().newInstance();
    }

    private Object single(Message owner, JsonNode field, String type, Class<?> wanted) throws Exception {
        switch (type) {
            case "bool": return random.nextBoolean();
            case "int8": return (byte) number(8);
            case "int16": return (short) number(16);
            case "uint16": return (int) (number(16) & 0xffff);
            case "int32": return (int) number(32);
            case "uint32": return number(32) & 0xffffffffL;
            case "int64": return number(64);
            case "float64": return random.nextInt(1000) / 8.0;
            case "uuid": return random.nextInt(4) == 0 ? Uuid.ZERO_UUID : new Uuid(random.nextInt(9), random.nextInt(99));
            case "string": return text();
            case "bytes": return wanted == byte[].class ? blob() : ByteBuffer.wrap(blob());
            case "records": return MemoryRecords.readableRecords(ByteBuffer.wrap(blob()));
            default: return struct(owner, field, type);
        }
    }

    private Object struct(Message owner, JsonNode field, String type) throws Exception {
        String outer = owner.getClass().getName();
        int nested = outer.indexOf('$');
        Class<?> found = Class.forName((nested < 0 ? outer : outer.substring(0, nested)) + "$" + type);
        Message message = (Message) found.getDeclaredConstructor().newInstance();
        fill(message, field.has("fields") ? field.get("fields") : commonStructs.get(type));
        return message;
    }

    private long number(int bits) {
        long highest = bits == 64 ? Long.MAX_VALUE : (1L << (bits - 1)) - 1;
        switch (random.nextInt(8)) {
            case 0: return 0;
            case 1: return -1;
            case 2: return highest;
            case 3: return -highest - 1;
            default: return random.nextInt(100) + 1;
        }
    }

    private String text() {
        switch (random.nextInt(12)) {
            case 0: return "";
            case 1: return "žluťoučký-\uD83D\uDC34";
            case 2: return "x".repeat(127);
            case 3: return "y".repeat(126);
            default: return "name-" + random.nextInt(10);
        }
    }

    private byte[] blob() {
        byte[] bytes = new byte[random.nextInt(10) == 0 ? 200 : random.nextInt(6)];
        Arrays.fill(bytes, (byte) random.nextInt(256));
        return bytes;
    }

    private boolean within(JsonNode range) {
        if (range == null) {
            return false;
        }
        int[] bounds = versions(range);
        return bounds[0] <= version && version <= bounds[1];
    }

    private static int[] versions(JsonNode range) {
        String text = range.asText();
        if (text.equals("none")) {
            return new int[] {1, 0};
        }
        if (text.endsWith("+")) {
            return new int[] {Integer.parseInt(text.substring(0, text.length() - 1)), Short.MAX_VALUE};
        }
        String[] ends = text.split("-");
        return new int[] {Integer.parseInt(ends[0]), Integer.parseInt(ends[ends.length - 1])};
    }
}
