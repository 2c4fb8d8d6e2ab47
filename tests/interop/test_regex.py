"""Our regular expressions beside com.google.re2j, which Apache Kafka takes for topics and for transactional ids."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from random import Random

import pytest

from ottla.re2 import InvalidRegex, compile_regex
from ottla.re2.characters import PERL, POSIX, orbit
from ottla.re2.tables import TABLES

SOURCE = Path(__file__).with_name("Re2j.java")
Ask = Callable[[Iterable[str]], list[str]]

TEXTS = (
    *("", "a", "b", "A", "B", "ab", "aB", "ba", "abc", "aab", "aabb", "a.b", "a-b_1", "1", "12", "_", ".", "-", "^$"),
    *("\n", "a\n", "\na", "a\nb", "a\rb", "\t \v", "\x00", "é", "É", "ß", "ẞ", "ss", "k", "K", "\u212a", "s", "ſ"),
    *("σ", "ς", "Σ", "ж", "Ж", "ﬀ", "İ", "ı", "i", "日本", "٣", "\U0001d504", "\U00010400", "\U00010428", "a\u0300"),
)
BY_HAND = (
    *(
        "",
        "a|b|",
        "^a",
        "a$",
        "(?m)^a$",
        "(?m)a$\nb",
        "(?m)a$.^b",
        "(?s)a.b",
        "a.b",
        "(?s:.)",
        "(?-s:.)",
        "(?i)k",
        "(?i)S",
    ),
    *(
        "[^a]",
        "[^a\\n]",
        "(?i)[^k]",
        "(?i)ß",
        "(?i)σ+",
        "(?i)[а-я]",
        "(?i)[\U00010400-\U00010427]",
        "\\pL+",
        "\\PL",
        "\\p{^L}",
    ),
    *(
        "\\p{Greek}",
        "\\p{Han}+",
        "\\p{Any}",
        "(?i)\\p{Lu}",
        "(?i)\\P{Lu}",
        "[\\pL\\d]",
        "[^\\PL]",
        "\\p{Nd}",
        "\\p{Foo}",
    ),
    *(
        "\\p{+Lu}",
        "\\p",
        "\\p{",
        "\\p{}",
        "\\pé",
        "\\w+",
        "(?i)\\w+",
        "(?i)\\W",
        "[[:word:]]+",
        "[[:^alpha:]]",
        "[:alpha:]",
    ),
    *(
        "[[:foo:]]",
        "[[:alpha:]",
        "\\b",
        "\\ba\\b",
        "a\\B\\Bb",
        "\\Aa\\z",
        "\\Z",
        "\\Qa.b\\E",
        "\\Qa.b",
        "\\Q\\E",
        "[\\Qa\\E]",
    ),
    *(
        "a{2}",
        "a{2,}",
        "a{,2}",
        "a{1,2}?",
        "a{0}",
        "a{2,1}",
        "a{1000}",
        "a{1001}",
        "a{01}",
        "a{1",
        "a{a}",
        "{",
        "}",
        "a{1}{2}",
    ),
    *("a**", "a*?", "a*+", "a??", "*", "+a", "(*)", "(?i)*", "^*", "$+", "\\b?", "()*", "(|a)+", "(a*)*", "(?:)"),
    *(
        "(?P<n>a)",
        "(?<n>a)",
        "(?P<n>a)(?<n>b)",
        "(?P<>a)",
        "(?P<é>a)",
        "(?P=n)",
        "(?<=a)",
        "(?=a)",
        "(?!a)",
        "(?>a)",
        "(?#a)",
    ),
    *(
        "(?i",
        "(?i)",
        "(?i-)",
        "(?-i)",
        "(?-)",
        "(?im-s:a)",
        "(?i-i:a)",
        "(?x)a",
        "(?U)a*",
        "(?",
        "(",
        ")",
        "a)",
        "(()",
        "[",
        "]",
    ),
    *(
        "[]",
        "[]a]",
        "[^]a]",
        "[^]",
        "[a-]",
        "[-a]",
        "[--a]",
        "[a-b-c]",
        "[a-\\d]",
        "[\\d-z]",
        "[z-a]",
        "[a-a]",
        "[\\n]",
    ),
    *(
        "\\x41",
        "\\x{1d504}",
        "\\x{110000}",
        "\\x{}",
        "\\x{41",
        "\\x4",
        "\\xg1",
        "\\0",
        "\\01",
        "\\1",
        "\\012",
        "\\8",
        "\\18",
    ),
    *("\\a\\f\\t\\n\\r\\v", "\\e", "\\c", "\\C", "\\u0041", "\\_", "\\é", "\\-", "\\", "\\<", "é|日本", "[é-ж]", "."),
)
ATOMS = (
    *(
        "a",
        "b",
        "k",
        "s",
        "é",
        "ß",
        "Σ",
        "ж",
        "\U00010400",
        "-",
        "_",
        "1",
        ".",
        "^",
        "$",
        "\\b",
        "\\B",
        "\\A",
        "\\z",
        "\\n",
    ),
    *(
        "[ab]",
        "[^a]",
        "[a-c1]",
        "[^\\n-z]",
        "[é-ж]",
        "[^\\W_]",
        "[[:upper:]]",
        "[[:^punct:]-]",
        "\\d",
        "\\D",
        "\\w",
        "\\S",
    ),
    *("\\pL", "\\P{Lu}", "\\p{Greek}", "\\p{^Nd}", "(?i)", "(?m)", "(?s)", "(?-i)", "\\Qa.\\E", "\\x{212a}", "\\101"),
)
PARTS = (*ATOMS, *"(((|||)))[[]]{}*+?^$-:,\\<>=!PiQEx01")


@pytest.fixture(scope="module")
def ask(apache_kafka: Path) -> Ask:
    """Lines to re2j, the lines it answers with."""

    def run(lines: Iterable[str]) -> list[str]:
        command = ["java", "-Xmx256m", "-cp", f"{apache_kafka}/*", str(SOURCE)]
        done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, timeout=200, check=True)
        return done.stdout.splitlines()

    return run


def coded(text: str) -> str:
    return "x" + text.encode().hex()


def verdict(regex: str, texts: Sequence[str]) -> str:
    """As ``Re2j.java`` puts it."""
    try:
        matcher = compile_regex(regex)
    except InvalidRegex as error:
        return f"-{error}"
    return "+" + "".join("01"[matcher(text)] for text in texts)


def nested(random: Random, depth: int) -> str:
    """An expression that is one."""
    if depth == 0 or random.random() < 0.2:
        return random.choice(ATOMS)
    inner = nested(random, depth - 1)
    match random.randrange(5):
        case 0:
            return f"(?:{inner}){random.choice(('*', '+', '?', '{2}', '{0,2}', '{1,}', '*?'))}"
        case 1:
            return f"(?:{inner}|{nested(random, depth - 1)})"
        case 2:
            return f"(?{random.choice(('i', 'm', 's', 'i-s', 'ims', '-i'))}:{inner})"
        case _:
            return inner + nested(random, depth - 1)


def expressions() -> Iterator[str]:
    random = Random(2)
    yield from BY_HAND
    for _ in range(4_000):
        yield nested(random, 4)
    for _ in range(4_000):
        yield "".join(random.choices(PARTS, k=random.randint(1, 7)))


def test_the_same_is_matched_and_the_same_refused(ask: Ask) -> None:
    regexes = list(dict.fromkeys(expressions()))
    texts = " ".join(map(coded, TEXTS))
    answers = ask(f"match {coded(regex)} {texts}" for regex in regexes)
    apart = [
        (regex, theirs, ours)
        for regex, theirs in zip(regexes, answers, strict=True)
        if (ours := verdict(regex, TEXTS)) != theirs.replace("regexp/syntax: internal error", "unexpected )")
    ]
    assert apart == []
    assert sum(answer.startswith("+") for answer in answers) > len(answers) // 2


def test_classes_hold_the_same_characters(ask: Ask) -> None:
    names = [line.split()[0] for line in TABLES.replace("\n ", " ").splitlines()]
    classes = [
        *(f"\\p{{{name}}}" for name in names if name[0] != "+"),
        *(f"(?i)\\p{{{name[1:]}}}" for name in names if name[0] == "+"),
        *(f"(?i)\\{name}" for name in PERL),
        *(f"[[:{name}:]]" for name in POSIX),
        *(f"(?i)[[:{name}:]]" for name in POSIX),
        ".",
    ]
    for regex, answer in zip(classes, ask(f"class {coded(regex)}" for regex in classes), strict=True):
        matcher = compile_regex(regex)
        runs = [tuple(map(int, run.split("-"))) for run in answer.split()]
        edges = {point for first, last in runs for point in (first - 1, first, (first + last) // 2, last, last + 1)}
        for point in edges - {-1, 0xD7FF, 0xD800, 0xDFFF, 0xE000}:
            expected = any(first <= point <= last for first, last in runs)
            if point < 0x30000:
                assert matcher(chr(point)) is expected, (regex, hex(point))


def test_the_same_characters_differ_by_case_only(ask: Ask) -> None:
    told = {}
    for line in ask(["folds"])[:-1]:
        point, *others = map(int, line.split())
        told[point] = set(others)
    assert len(told) > 2_500
    # re2j compiles these for ever: their upper case does not lead back to them.
    broken = range(0x1C80, 0x1C89)
    for point, theirs in told.items():
        if point not in broken:
            assert set(map(ord, orbit(chr(point)))) == theirs, hex(point)
