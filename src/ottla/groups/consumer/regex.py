"""Regular expressions in RE2's syntax, for the names of topics only: no backtracking, whatever the expression.

Kafka resolves ``SubscribedTopicRegex`` with RE2, over whole names. A topic's name is 1 to 249 of 65 characters, so a
character class is a subset of those, everything outside them can only not match, and Unicode reduces to letters, digits
and three signs. What RE2 refuses is refused in its words. Bounds beyond RE2's: ``REGEX_LENGTH_MAX`` characters,
``NESTING_MAX`` groups within each other, ``STATES_MAX`` states, each a step per character of a name at most.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from string import ascii_letters, digits
from typing import Final
from unicodedata import category

from ottla.groups.consumer.regex_program import ALPHABET, Assertion, Matcher, Node, Program

REGEX_LENGTH_MAX: Final = 4_096
NESTING_MAX: Final = 100
REPEAT_MAX: Final = 1_000
CACHED_MATCHERS: Final = 64

_META: Final = frozenset("\\.+*?()|[]{}^$")
_ESCAPES: Final = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_WORD: Final = frozenset(ascii_letters + digits + "_")
_PERL: Final = {"d": frozenset(digits), "s": frozenset("\t\n\f\r "), "w": _WORD}
_POSIX: Final[dict[str, Callable[[str], bool]]] = {
    "alnum": lambda char: char.isascii() and char.isalnum(),
    "alpha": lambda char: char.isascii() and char.isalpha(),
    "ascii": lambda char: char.isascii(),
    "blank": lambda char: char in "\t ",
    "cntrl": lambda char: char < " " or char == "\x7f",
    "digit": lambda char: char in digits,
    "graph": lambda char: "!" <= char <= "~",
    "lower": lambda char: char.isascii() and char.islower(),
    "print": lambda char: " " <= char <= "~",
    "punct": lambda char: "!" <= char <= "~" and not char.isalnum(),
    "space": lambda char: char in "\t\n\v\f\r ",
    "upper": lambda char: char.isascii() and char.isupper(),
    "word": lambda char: char in _WORD,
    "xdigit": lambda char: char.isascii() and char in "0123456789abcdefABCDEF",
}
_CATEGORY_NAMES: Final = (
    "C Cc Cf Co Cs L Ll Lm Lo Lt Lu M Mc Me Mn N Nd Nl No P Pc Pd Pe Pf Pi Po Ps S Sc Sk Sm So Z Zl Zp Zs"
)
_CATEGORIES: Final = frozenset(_CATEGORY_NAMES.split())
_SCRIPT_NAMES: Final = """
    Arabic Armenian Avestan Balinese Bamum Batak Bengali Bopomofo Brahmi Braille Buginese Buhid
    Canadian_Aboriginal Carian Cham Cherokee Common Coptic Cuneiform Cypriot Cyrillic Deseret Devanagari
    Egyptian_Hieroglyphs Ethiopic Georgian Glagolitic Gothic Greek Gujarati Gurmukhi Han Hangul Hanunoo Hebrew
    Hiragana Imperial_Aramaic Inherited Inscriptional_Pahlavi Inscriptional_Parthian Javanese Kaithi Kannada
    Katakana Kayah_Li Kharoshthi Khmer Lao Latin Lepcha Limbu Linear_B Lisu Lycian Lydian Malayalam Mandaic
    Meetei_Mayek Mongolian Myanmar New_Tai_Lue Nko Ogham Ol_Chiki Old_Italic Old_Persian Old_South_Arabian
    Old_Turkic Oriya Osmanya Phags_Pa Phoenician Rejang Runic Samaritan Saurashtra Shavian Sinhala Sundanese
    Syloti_Nagri Syriac Tagalog Tagbanwa Tai_Le Tai_Tham Tai_Viet Tamil Telugu Thaana Thai Tibetan Tifinagh
    Ugaritic Unknown Vai Yi
"""
_SCRIPTS: Final = frozenset(_SCRIPT_NAMES.split())
_FOLDED: Final = {"k": "kK\N{KELVIN SIGN}", "s": "sS\N{LATIN SMALL LETTER LONG S}"}
"""Letters that equal more than their other case when case does not count."""


class InvalidRegex(ValueError):
    """Not an expression, or beyond a bound; says why in RE2's words."""


@lru_cache(CACHED_MATCHERS)
def compile_regex(regex: str) -> Matcher:
    """A test for whole topic names. Raises ``InvalidRegex``."""
    if len(regex) > REGEX_LENGTH_MAX:
        raise InvalidRegex(f"longer than {REGEX_LENGTH_MAX} characters")
    node = _Parser(regex).parse()
    try:
        return Matcher(Program(node))
    except OverflowError as error:
        raise InvalidRegex(str(error)) from error


class _Parser:
    """One expression, read from the left."""

    __slots__ = ("_at", "_depth", "_folds", "_names", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._folds = False
        self._names: dict[str, None] = {}

    def parse(self) -> Node:
        node = self._alternatives()
        if self._at < len(self._text):
            raise InvalidRegex("unexpected )")
        return node

    def _alternatives(self) -> Node:
        branches = [self._sequence()]
        while self._take("|"):
            branches.append(self._sequence())
        return branches[0] if len(branches) == 1 else Node.any_of(branches)

    def _sequence(self) -> Node:
        items: list[Node] = []
        after_repeat = False
        while self._at < len(self._text) and self._peek() not in "|)":
            bounds = self._repetition()
            if bounds is None:
                items += self._item()
                after_repeat = False
                continue
            if after_repeat:
                raise InvalidRegex("invalid nested repetition operator")
            if not items:
                raise InvalidRegex("missing argument to repetition operator")
            items[-1] = Node.repeated(items[-1], *bounds)
            after_repeat = True
        return items[0] if len(items) == 1 else Node.sequence(items)

    # -- repetition

    def _repetition(self) -> tuple[int, int | None] | None:
        """Bounds of the operator that stands here, if one does. Lazy and greedy match the same names."""
        simple = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(self._peek())
        if simple is not None:
            self._at += 1
            self._take("?")
            return simple
        if self._peek() != "{":
            return None
        start = self._at
        bounds = self._counts()
        if bounds is None:
            self._at = start
            return None
        self._take("?")
        return bounds

    def _counts(self) -> tuple[int, int | None] | None:
        """``{n}``, ``{n,}`` or ``{n,m}``; anything else is a literal brace."""
        self._at += 1
        lowest = self._number()
        if lowest is None:
            return None
        highest: int | None = lowest
        if self._take(","):
            highest = None
            if self._peek() != "}":
                highest = self._number()
                if highest is None:
                    return None
        if not self._take("}"):
            return None
        if lowest > REPEAT_MAX or (highest is not None and not lowest <= highest <= REPEAT_MAX):
            raise InvalidRegex("invalid repeat count")
        return lowest, highest

    def _number(self) -> int | None:
        start = self._at
        while self._peek() and self._peek() in digits:
            self._at += 1
        text = self._text[start : self._at]
        if not text or (len(text) > 1 and text[0] == "0"):
            return None
        return int(text[:9])

    # -- items

    def _item(self) -> list[Node]:
        char = self._peek()
        match char:
            case "(":
                return self._group()
            case "[":
                return [self._bracket()]
            case "^":
                self._at += 1
                return [Node.asserted(Assertion.BEGIN)]
            case "$":
                self._at += 1
                return [Node.asserted(Assertion.END)]
            case ".":
                self._at += 1
                return [Node.one_of(ALPHABET)]
            case "\\":
                return self._escaped()
        self._at += 1
        return [self._literal(char)]

    def _literal(self, char: str) -> Node:
        return Node.one_of(self._among(lambda other: other == char))

    def _among(self, belongs: Callable[[str], bool]) -> frozenset[str]:
        """The topic characters of a class, with their other cases where case does not count."""
        if not self._folds:
            return frozenset(char for char in _ALPHABET_ORDERED if belongs(char))
        return frozenset(char for char in _ALPHABET_ORDERED if any(belongs(other) for other in _same(char)))

    def _group(self) -> list[Node]:
        folds = self._folds
        self._at += 1
        if self._take("?") and not self._group_head():
            return []
        self._depth += 1
        if self._depth > NESTING_MAX:
            raise InvalidRegex(f"more than {NESTING_MAX} groups within each other")
        node = self._alternatives()
        if not self._take(")"):
            raise InvalidRegex("missing closing )")
        self._depth -= 1
        self._folds = folds
        return [node]

    def _group_head(self) -> bool:
        """What stands behind ``(?``; False where that was all: flags for the rest of the group around it."""
        for prefix in ("P<", "<"):
            if self._text.startswith(prefix, self._at):
                self._capture_name(self._at + len(prefix))
                return True
        folds, sign, saw = self._folds, True, False
        while self._at < len(self._text):
            char = self._peek()
            self._at += 1
            if char in "imsU":
                folds = sign if char == "i" else folds
                saw = True
            elif char == "-" and sign:
                sign = saw = False
            elif char in ":)" and (sign or saw):
                self._folds = folds
                return char == ":"
            else:
                break
        raise InvalidRegex("invalid or unsupported Perl syntax")

    def _capture_name(self, start: int) -> None:
        end = self._text.find(">", start)
        name = self._text[start : max(end, start)]
        if end < 0 or not name or not all(char in _WORD for char in name):
            raise InvalidRegex("invalid named capture")
        if name in self._names:
            raise InvalidRegex("duplicate capture group name")
        self._names[name] = None
        self._at = end + 1

    def _escaped(self) -> list[Node]:
        following = self._text[self._at + 1 : self._at + 2]
        assertion = {
            "A": Assertion.BEGIN,
            "z": Assertion.END,
            "b": Assertion.WORD_EDGE,
            "B": Assertion.NO_WORD_EDGE,
        }.get(following)
        if assertion is not None:
            self._at += 2
            return [Node.asserted(assertion)]
        if following == "Q":
            return self._quoted()
        named = self._class_escape()
        if named is not None:
            return [Node.one_of(named)]
        return [self._literal(self._escape())]

    def _quoted(self) -> list[Node]:
        start = self._at + 2
        end = self._text.find("\\E", start)
        text = self._text[start:] if end < 0 else self._text[start:end]
        self._at = len(self._text) if end < 0 else end + 2
        return [self._literal(char) for char in text]

    def _escape(self) -> str:
        """One escaped character."""
        self._at += 1
        if self._at >= len(self._text):
            raise InvalidRegex("trailing backslash at end of expression")
        char = self._peek()
        self._at += 1
        if char in _ESCAPES:
            return _ESCAPES[char]
        if char == "x":
            return self._hexadecimal()
        if char in "01234567":
            octal = char
            while len(octal) < 3 and self._peek() and self._peek() in "01234567":
                octal += self._peek()
                self._at += 1
            if char == "0" or len(octal) > 1:
                return chr(int(octal, 8))
        if char.isascii() and char.isalnum():
            raise InvalidRegex("invalid escape sequence")
        return char

    def _hexadecimal(self) -> str:
        if self._take("{"):
            end = self._text.find("}", self._at)
            text = self._text[self._at : max(end, self._at)]
            self._at = end + 1
        else:
            text = self._text[self._at : self._at + 2]
            self._at += 2
            text = text if len(text) == 2 else ""
        if not text or not all(char in "0123456789abcdefABCDEF" for char in text) or int(text, 16) > 0x10FFFF:
            raise InvalidRegex("invalid escape sequence")
        return chr(int(text, 16))

    # -- classes

    def _class_escape(self) -> frozenset[str] | None:
        """``\\d``, ``\\W``, ``\\pL``, ``\\P{Greek}`` and the like, if one stands here."""
        letter = self._text[self._at + 1 : self._at + 2]
        if letter.lower() in _PERL:
            self._at += 2
            wanted = _PERL[letter.lower()]
            return self._signed(self._among(lambda char: char in wanted), negated=letter.isupper())
        if letter in ("p", "P"):
            self._at += 2
            return self._unicode_class(negated=letter == "P")
        return None

    def _unicode_class(self, *, negated: bool) -> frozenset[str]:
        name = self._peek()
        self._at += 1
        if name == "{":
            end = self._text.find("}", self._at)
            name = self._text[self._at : max(end, self._at)]
            self._at = end + 1
        if name.startswith("^"):
            name, negated = name[1:], not negated
        if name == "Any":
            members = ALPHABET
        elif name in _CATEGORIES:
            members = self._among(lambda char: category(char).startswith(name))
        elif name in _SCRIPTS:
            members = self._among(lambda char: name == ("Latin" if char.isalpha() else "Common"))
        else:
            raise InvalidRegex("invalid character class range")
        return self._signed(members, negated=negated)

    def _bracket(self) -> Node:
        self._at += 1
        negated = self._take("^")
        members: frozenset[str] = frozenset()
        is_first = True
        while is_first or self._peek() != "]":
            is_first = False
            members |= self._class_item()
        self._at += 1
        return Node.one_of(self._signed(members, negated=negated))

    def _class_item(self) -> frozenset[str]:
        if self._text.startswith("[:", self._at):
            end = self._text.find(":]", self._at)
            if end >= 0:
                name = self._text[self._at + 2 : end]
                self._at = end + 2
                return self._posix_class(name)
        if self._peek() == "\\":
            named = self._class_escape()
            if named is not None:
                return named
        low = high = self._class_char()
        if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] != "]":
            self._at += 1
            high = self._class_char()
            if high < low:
                raise InvalidRegex("invalid character class range")
        return self._among(lambda char: low <= char <= high)

    def _posix_class(self, name: str) -> frozenset[str]:
        negated = name.startswith("^")
        belongs = _POSIX.get(name[1:] if negated else name)
        if belongs is None:
            raise InvalidRegex("invalid character class range")
        return self._signed(self._among(belongs), negated=negated)

    def _class_char(self) -> str:
        if self._at >= len(self._text):
            raise InvalidRegex("missing closing ]")
        if self._peek() == "\\":
            return self._escape()
        self._at += 1
        return self._text[self._at - 1]

    def _signed(self, members: frozenset[str], *, negated: bool) -> frozenset[str]:
        return ALPHABET - members if negated else members

    # -- text

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self, char: str) -> bool:
        found = self._peek() == char
        self._at += found
        return found


_ALPHABET_ORDERED: Final = sorted(ALPHABET)


def _same(char: str) -> Iterable[str]:
    """The characters that equal this one when case does not count."""
    return _FOLDED.get(char.lower(), (char.lower(), char.upper()))
