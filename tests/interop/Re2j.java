import com.google.re2j.Pattern;
import com.google.re2j.PatternSyntaxException;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.lang.reflect.Method;
import java.nio.charset.StandardCharsets;
import java.util.TreeSet;

/**
 * Answers questions about regular expressions, a line each; texts are "x" and the hexadecimal digits of their UTF-8.
 *
 *   match PATTERN TEXT...   "+" and a 0 or 1 for each text, or "-" and why there is no such expression
 *   class PATTERN           the runs of code points that the expression of one character matches: first-last
 *   folds                   a line for each character that has others that equal it without regard to case, then "."
 */
public final class Re2j {
    private static final int[][] PLANES = {{0, 0xD800}, {0xE000, 0x30000}, {0xE0000, 0xE0200}, {0xF0000, 0xF0010}};

    public static void main(String[] arguments) throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        StringBuilder out = new StringBuilder();
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] words = line.split(" ");
            switch (words[0]) {
                case "match" -> match(words, out);
                case "class" -> runs(Pattern.compile(text(words[1])), out);
                default -> folds(out);
            }
            out.append('\n');
        }
        System.out.print(out);
    }

    private static void match(String[] words, StringBuilder out) {
        Pattern pattern;
        try {
            pattern = Pattern.compile(text(words[1]));
        } catch (PatternSyntaxException error) {
            out.append('-').append(error.getDescription());
            return;
        }
        out.append('+');
        for (int index = 2; index < words.length; index++) {
            out.append(pattern.matcher(text(words[index])).matches() ? '1' : '0');
        }
    }

    private static void runs(Pattern pattern, StringBuilder out) {
        for (int[] plane : PLANES) {
            int begin = -1;
            for (int point = plane[0]; point <= plane[1]; point++) {
                boolean matches = point < plane[1] && pattern.matches(new String(Character.toChars(point)));
                if (matches && begin < 0) {
                    begin = point;
                } else if (!matches && begin >= 0) {
                    out.append(begin).append('-').append(point - 1).append(' ');
                    begin = -1;
                }
            }
        }
    }

    private static void folds(StringBuilder out) throws Exception {
        Method fold = Class.forName("com.google.re2j.Unicode").getDeclaredMethod("simpleFold", int.class);
        fold.setAccessible(true);
        for (int point = 0; point < 0x110000; point++) {
            TreeSet<Integer> orbit = new TreeSet<>();
            for (int other = point; orbit.add(other); other = (int) fold.invoke(null, other)) { }
            if (orbit.size() > 1) {
                out.append(point).append(' ').append(orbit.toString().replaceAll("[\\[\\],]", "")).append('\n');
            }
        }
        out.append('.');
    }

    private static String text(String word) {
        byte[] bytes = new byte[word.length() / 2];
        for (int index = 0; index < bytes.length; index++) {
            bytes[index] = (byte) Integer.parseInt(word.substring(2 * index + 1, 2 * index + 3), 16);
        }
        return new String(bytes, StandardCharsets.UTF_8);
    }
}
