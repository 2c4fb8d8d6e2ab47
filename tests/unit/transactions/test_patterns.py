"""Expressions without backtracking match what Python's own matcher matches, and never take long."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.transactions.patterns import InvalidPattern, Pattern

LARGE = ("(" * 65 + ")" * 65, "a" * 1025, "((a{99}){99}){9}", "\\xzz")
PIECES = st.recursive(
    st.sampled_from(["a", "b", ".", "[ab]", "[^a]", "\\d", "\\W", "[a-c0]", "\\.", "(?:)"]),
    lambda inner: st.one_of(
        st.builds("({})*".format, inner),
        st.builds("(?:{})+?".format, inner),
        st.builds("(?:{}){{1,2}}".format, inner),
        st.builds("({}|{})".format, inner, inner),
        st.builds("{}{}".format, inner, inner),
        st.builds("(?:{})?".format, inner),
    ),
    max_leaves=8,
)


@given(PIECES, st.text("ab.c01-", max_size=8))
def test_it_matches_what_python_matches(expression, text):
    assert Pattern(expression).matches(text) == (re.fullmatch(expression, text) is not None)


@pytest.mark.parametrize(
    ("expression", "text", "matches"),
    [
        ("", "", True),
        ("", "a", False),
        ("^ab$", "ab", True),
        ("a^b", "ab", False),
        ("\\Aab\\z", "ab", True),
        ("(?i)aB[c-d]", "AbD", True),
        ("\\Qa.b\\E.*", "a.bc", True),
        ("\\Qa.b", "axb", False),
        ("[]a]+", "]a]", True),
        ("[a-]+", "a-a", True),
        ("[^\\d-]", "-", False),
        ("(?<name>x)\\x41\\u0042\\t", "xAB\t", True),
        ("x{2}y{1,}z{0,1}", "xxyyz", True),
        ("x{2}", "xxx", False),
    ],
)
def test_what_it_understands(expression, text, matches):
    assert Pattern(expression).matches(text) is matches


@pytest.mark.parametrize(
    "expression",
    ["(", "a)", "*", "a++", "[", "[b-a]", "[a[b]]", "a{2,1}", "a{", "(?=a)", "(?<=a)", "\\1", "\\", "\\y", *LARGE],
)
def test_what_it_refuses(expression):
    with pytest.raises(InvalidPattern):
        Pattern(expression)


def test_time_is_bounded_where_backtracking_explodes():
    started = time.perf_counter()
    assert not Pattern("(a+)+(a*)*b").matches("a" * 3000)
    assert time.perf_counter() - started < 2
