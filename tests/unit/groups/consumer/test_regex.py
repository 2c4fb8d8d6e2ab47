"""Regular expressions for topic names: RE2's syntax, RE2's refusals, and no expression that takes long."""

import re
import time

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ottla.groups.consumer.regex import (
    NESTING_MAX,
    REGEX_LENGTH_MAX,
    InvalidRegex,
    compile_regex,
)
from ottla.groups.consumer.regex_program import STATES_MAX

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
    ],
)
def test_refuses_in_the_words_of_re2(regex, reason):
    with pytest.raises(InvalidRegex, match=re.escape(reason)):
        compile_regex(regex)


def test_groups_may_nest_as_deep_as_allowed():
    assert compile_regex("(" * NESTING_MAX + "a" + ")" * NESTING_MAX)("a")


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
