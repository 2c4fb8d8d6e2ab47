"""Regular expressions of topics and transactional ids: RE2's syntax and refusals, and no expression that takes long."""

import cProfile
import re
import time
from contextlib import suppress

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ottla.re2 import InvalidRegex, compile_regex, select
from ottla.re2.matcher import REMEMBERED_MAX, STATES_MAX, STEPS_MAX
from ottla.re2.syntax import NESTING_MAX, REGEX_LENGTH_MAX

NAMES = st.text("abAB12._-", min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("regex", "matching", "other"),
    [
        ("", [], ["a"]),
        ("a", ["a"], ["b", "ab", "ba"]),
        ("a|bc", ["a", "bc"], ["abc", "b"]),
        ("a||b", ["a", "b"], ["ab"]),
        (".*", ["a", "a.b-c_1"], []),
        ("^a.c$", ["abc", "a.c"], ["abcd"]),
        ("a*b+c?", ["b", "aabbc", "bc"], ["a", "ac"]),
        ("a*?b+?", ["b", "ab"], ["a"]),
        ("(ab){2}", ["abab"], ["ab", "ababab"]),
        ("(?:ab){1,2}", ["ab", "abab"], ["a", "ababab"]),
        ("a{2,}", ["aa", "aaaa"], ["a"]),
        ("a{0}b", ["b"], ["ab"]),
        ("x{,2}", [], ["x", "xx"]),
        ("[a-c1]+", ["ab1c"], ["d", "-"]),
        ("[^a-z]+", ["A1-"], ["a"]),
        ("[]a-]+", ["a-"], ["b"]),
        ("[a-]", ["-"], ["b"]),
        (r"\d+\.\w", ["12.a"], ["12-a"]),
        (r"\D\W\S", ["a-b"], ["1-b", "aab"]),
        (r"\s", [], ["a", "-"]),
        ("[[:alpha:]][[:^digit:]][[:punct:]]", ["ab-", "a.."], ["a1-", "1b-"]),
        (r"[\d_]+", ["1_2"], ["a"]),
        (r"\pL\p{Lu}\PL", ["aA1"], ["aa1", "1A1"]),
        (r"\p{Latin}\p{^Latin}\P{Nd}\p{Any}", ["a1a1"], ["11a1"]),
        (r"\p{Greek}", [], ["a"]),
        (r"\Qa.b\E+", ["a.b", "a.bb"], ["axb"]),
        (r"\Qa.b", ["a.b"], ["axb"]),
        (r"\x41\x{62}\103", ["AbC"], ["abc"]),
        (r"a\-b\_c", ["a-b_c"], ["ab_c"]),
        ("(?i)ab", ["ab", "AB", "aB"], ["b"]),
        ("(?i:a)b", ["Ab", "ab"], ["aB"]),
        ("a(?i)b", ["aB"], ["Ab"]),
        ("(?i)a(?-i)b", ["Ab"], ["AB"]),
        ("((?i)a)b", ["Ab"], ["AB"]),
        ("(?i)[^a]", ["b", "B"], ["a", "A"]),
        ("(?i)\N{KELVIN SIGN}\N{LATIN SMALL LETTER LONG S}", ["ks", "KS"], ["k"]),
        ("(?s).(?U)a*(?m)$", ["xa", "x"], ["xb"]),
        ("(?P<name>a)(?<other>b)", ["ab"], ["a"]),
        (r"\Aa\z", ["a"], ["b"]),
        (r"a\b-\bb", ["a-b"], ["ab"]),
        (r"a\Bb", ["ab"], ["a-b"]),
        (r"a\bb", [], ["ab"]),
        ("a^b", [], ["ab"]),
        ("a$|b", ["a", "b"], ["ab"]),
        ("(|a)*b", ["b", "aab"], ["a"]),
        ("(a*)*", ["aaa"], ["b"]),
        ("^*a", ["a"], ["b"]),
        ("é|a", ["a"], ["b"]),
        ("a{", [], ["a"]),
        ("}a", [], ["a"]),
    ],
)
def test_matches_whole_names(regex, matching, other):
    matcher = compile_regex(regex)
    assert [name for name in matching if not matcher(name)] == []
    assert [name for name in other if matcher(name)] == []


@pytest.mark.parametrize(
    ("regex", "matching", "other"),
    [
        (".", ["é", "\U0001d504", "\r"], ["\n", ""]),
        ("(?s:.).", ["\na"], ["a\n"]),
        ("a$\n^b", [], ["a\nb"]),
        ("(?m)a$\n^b", ["a\nb"], ["ab"]),
        ("(?m:^)a(?m:$)", ["a"], ["a\n"]),
        ("[^a]", ["\n", "日"], ["a"]),
        ("[а-я]+", ["жук"], ["Ж"]),
        ("(?i)[а-я]+", ["Жук"], ["ё"]),
        ("(?i)σ", ["σ", "ς", "Σ"], ["s"]),
        ("(?i)ß", ["ẞ", "ß"], ["ss"]),
        ("(?i)\U00010400", ["\U00010428"], ["a"]),
        (r"\p{Greek}+\P{Greek}", ["λόγος1"], ["λόγος"]),
        (r"\p{Han}\p{Lo}\p{Nd}", ["日本٣"], ["日a٣"]),
        (r"\w\b.", ["aé"], ["éa"]),
    ],
)
def test_ids_may_hold_any_characters(regex, matching, other):
    test_matches_whole_names(regex, matching, other)


@pytest.mark.parametrize(
    ("regex", "reason"),
    [
        ("a[b", "missing closing ]"),
        ("[", "missing closing ]"),
        ("[]", "missing closing ]"),
        ("a(b", "missing closing )"),
        ("(", "missing closing )"),
        ("*a", "missing argument to repetition operator"),
        ("(*a)", "missing argument to repetition operator"),
        ("|+", "missing argument to repetition operator"),
        ("(?i)*", "missing argument to repetition operator"),
        ("a**", "invalid nested repetition operator"),
        ("a{2}{3}", "invalid nested repetition operator"),
        ("a{3,1}", "invalid repeat count"),
        ("a{1001}", "invalid repeat count"),
        ("a{99999999999}", "invalid repeat count"),
        ("a\\", "trailing backslash at end of expression"),
        ("\\y", "invalid escape sequence"),
        ("\\8", "invalid escape sequence"),
        ("\\C", "invalid escape sequence"),
        ("\\xz1", "invalid escape sequence"),
        ("\\x1", "invalid escape sequence"),
        ("\\x{110000}", "invalid escape sequence"),
        ("\\x{}", "invalid escape sequence"),
        ("\\x{41", "invalid escape sequence"),
        ("[z-a]", "invalid character class range"),
        ("[[:nope:]]", "invalid character class range"),
        ("\\p{Nope}", "invalid character class range"),
        ("\\p", "invalid character class range"),
        ("\\p{L", "invalid character class range"),
        ("(?=a)", "invalid or unsupported Perl syntax"),
        ("(?<!a)", "invalid named capture"),
        ("(?i", "invalid or unsupported Perl syntax"),
        ("(?i-)", "invalid or unsupported Perl syntax"),
        ("(?P<n", "invalid named capture"),
        ("(?P<>a)", "invalid named capture"),
        ("(?P<a->a)", "invalid named capture"),
        ("(?P<n>a)(?P<n>b)", "duplicate capture group name"),
        ("a)", "unexpected )"),
        ("a" * (REGEX_LENGTH_MAX + 1), f"longer than {REGEX_LENGTH_MAX} characters"),
        ("(" * (NESTING_MAX + 1) + ")" * (NESTING_MAX + 1), f"more than {NESTING_MAX} groups within each other"),
        ("(a{1000}){1000}", f"more than {STATES_MAX} states"),
        (f"(?:{'|' * 4_000}){{1000}}", f"more than {STEPS_MAX} steps"),
        (f"(?:{'()' * 1_000}a){{1000}}", f"more than {STEPS_MAX} steps"),
        ("\\p{+Lu}", "invalid character class range"),
    ],
)
def test_refuses_in_the_words_of_re2(regex, reason):
    with pytest.raises(InvalidRegex, match=re.escape(reason)):
        compile_regex(regex)


def test_groups_may_nest_as_deep_as_allowed():
    assert compile_regex("(" * NESTING_MAX + "a" + ")" * NESTING_MAX)("a")


@pytest.mark.parametrize(
    "regex",
    [
        "a" * REGEX_LENGTH_MAX,
        "[^" + "\\pL\\p{Han}" * 400 + "]{1000}",
        "(?i)[" + "".join(map(chr, range(0x400, 0x400 + 2_000))) + "]{900}",
        "[[:" * 1_300,
        "(?i)" + "k" * 2_000,
        "(?:a|" * NESTING_MAX + ")?" * NESTING_MAX,
        "(?:" * 3 + "a{13}" + "){13}" * 3,
    ],
)
def test_reading_an_expression_takes_no_time(regex):
    started = time.process_time()
    with suppress(InvalidRegex):
        compile_regex(regex)
    assert time.process_time() - started < 0.5


def test_a_long_text_is_matched_bit_by_bit():
    matcher = compile_regex("(?:a|b)*a(?:a|b){500}")
    steps = matcher.steps("ab" * 500)
    taken = [next(steps) for _ in range(100)]
    assert sum(taken) > 3 * len(taken)
    assert max(taken) <= STATES_MAX


def test_texts_are_selected_for_several_expressions_at_once():
    found = {"a+": [], "a|b": [], "c": []}
    steps = list(select([(compile_regex(regex), texts) for regex, texts in found.items()], ["a", "b", "aa", "d"]))
    assert found == {"a+": ["a", "aa"], "a|b": ["a", "b"], "c": []}
    assert len(steps) >= 12
    assert list(select([], ["a"])) == []


def test_what_is_remembered_has_a_bound():
    matcher = compile_regex(".*a.{20}")
    assert not any(matcher(f"{chr(0x4E00 + number)}a{'b' * (number % 19)}") for number in range(3_000))
    held = sum(len(found.states) + len(found.then) for found in matcher._sets.values())
    assert held <= REMEMBERED_MAX
    assert len(matcher._start.then) <= REMEMBERED_MAX


@st.composite
def shared_syntax(draw):
    """Expressions that Python's engine reads the same way."""
    atoms = st.sampled_from(["a", "b", "A", r"\.", "-", "_", "1", ".", "[a-b]", "[^a]", r"\d", r"\w", r"\b", "^", "$"])
    return draw(
        st.recursive(
            atoms,
            lambda inner: st.one_of(
                st.lists(inner, min_size=1, max_size=3).map("".join),
                st.tuples(inner, inner).map("(?:{0[0]}|{0[1]})".format),
                st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "*?"])).map("(?:{0[0]}){0[1]}".format),
            ),
            max_leaves=8,
        )
    )


@given(shared_syntax(), st.lists(NAMES, min_size=1, max_size=5))
@example("(?:(?:a*)+)*b", ["aaab"])
def test_agrees_with_pythons_engine_where_both_read_alike(regex, names):
    matcher = compile_regex(regex)
    for name in names:
        assert matcher(name) == (re.fullmatch(regex, name, re.ASCII) is not None)


@given(st.text(max_size=30))
def test_any_text_is_an_expression_or_refused(regex):
    try:
        matcher = compile_regex(regex)
    except InvalidRegex:
        assume(False)
    matcher("any-name_1.x")


@pytest.mark.parametrize("regex", ["(a*)*b", "(a|a)*b", "(.*.*)*x", "(a?){100}a{100}", "(a|ab|b)*c"])
def test_no_expression_explodes(regex):
    started = time.perf_counter()
    assert not compile_regex(regex)("a" * 249)
    assert time.perf_counter() - started < 2.0


def test_more_sets_than_are_remembered_are_met_again():
    matcher = compile_regex("(a|b)*a(a|b){12}")
    names = [format(number, "016b").replace("0", "a").replace("1", "b") for number in range(0, 1 << 16, 37)]
    assert all(matcher(name) == (name[-13] == "a") for name in names)


@pytest.mark.parametrize("fold", ["", "(?i)"])
def test_a_class_of_thousands_of_members_is_tested_in_few_steps(fold):
    many = "".join(chr(0x4E00 + 2 * number) for number in range(3_900))
    matcher = compile_regex(f"{fold}[{many}a-z0-9._-]{{1,120}}")
    names = [chr(97 + number % 26) * 100 + str(number) for number in range(300)]
    profile = cProfile.Profile()
    assert profile.runcall(lambda: all(map(matcher, names)))
    assert not matcher(many[5] + chr(0x4E01))
    assert matcher(many[5:100])
    tested = sum(entry.callcount for entry in profile.getstats())
    assert tested < 30 * sum(map(len, names)), tested


def test_a_class_named_over_and_over_is_one_test():
    matcher = compile_regex("[" + r"\PL\W[:^alpha:]" * 250 + "]*")
    profile = cProfile.Profile()
    assert not profile.runcall(matcher, "a")
    assert sum(entry.callcount for entry in profile.getstats()) < 100


def test_nothing_repeated_takes_no_time():
    """Nothing has no states, so their number does not bound how often it is repeated."""
    started = time.process_time()
    matches = compile_regex("a" + "(" * 4 + ")" + "{1000})" * 3 + "{1000}")
    assert time.process_time() - started < 1
    assert matches("a")
    assert not matches("b")
