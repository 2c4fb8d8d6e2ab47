"""Settings from text: properties, TOML, command line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.config.key import ConfigError
from ottla.config.sources import Settings, parse_assignments, parse_properties, parse_toml


def test_properties_as_java_reads_them() -> None:
    text = (
        "# comment\n"
        "! comment too\n"
        "\n"
        "a=1\n"
        "  b : 2\n"
        "c 3\n"
        "d\n"
        "e = x\\\n"
        "     y\n"
        "f=with = and : in it\n"
        "g\\=h=tab\\there\n"
        "i=\\u0041\\\\\n"
        "j=#not a comment\r\n"
        "a=last wins"
    )
    assert parse_properties(text) == {
        "a": "last wins",
        "b": "2",
        "c": "3",
        "d": "",
        "e": "xy",
        "f": "with = and : in it",
        "g=h": "tab\there",
        "i": "A\\",
        "j": "#not a comment",
    }


def test_a_bad_escape_is_an_error() -> None:
    with pytest.raises(ConfigError):
        parse_properties("a=\\uZZZZ")


PLAIN = st.text(st.characters(codec="ascii", exclude_categories=("Cc",)), min_size=1)


@given(st.dictionaries(PLAIN, PLAIN, max_size=5))
def test_escaped_properties_come_back(pairs: dict[str, str]) -> None:
    def escaped(text: str) -> str:
        return "".join(f"\\{character}" if character in "\\=:#! " else character for character in text)

    text = "\n".join(f"{escaped(key)}={escaped(value)}" for key, value in pairs.items())
    assert parse_properties(text) == pairs


def test_toml_is_flattened() -> None:
    text = """
    listeners = ["PLAINTEXT://:1", "CONTROLLER://:2"]
    "num.partitions" = 3
    [log.retention]
    hours = 24
    [ottla]
    flush = "never"
    [auto.create.topics]
    enable = false
    """
    assert parse_toml(text) == {
        "listeners": "PLAINTEXT://:1,CONTROLLER://:2",
        "num.partitions": "3",
        "log.retention.hours": "24",
        "ottla.flush": "never",
        "auto.create.topics.enable": "false",
    }


@pytest.mark.parametrize("text", ["a = ", "a = [[1]]", "a = 2020-01-01"])
def test_toml_that_cannot_be_a_setting(text: str) -> None:
    with pytest.raises(ConfigError) as failure:
        parse_toml(text, "x.toml")
    assert str(failure.value).startswith("x.toml: ")


def test_assignments() -> None:
    assert parse_assignments(["a=1", "b = c=d", "e="]) == {"a": "1", "b": "c=d", "e": ""}
    for wrong in ("a", "=1"):
        with pytest.raises(ConfigError, match="key=value"):
            parse_assignments([wrong])


def test_later_sources_win_and_are_remembered() -> None:
    settings = Settings()
    settings.add_file("num.partitions=2\nlog.dirs=/a", "server.properties")
    settings.add_file("[num]\npartitions = 4", "more.toml")
    settings.add_assignments(["num.partitions=5"])
    assert settings.values == {"num.partitions": "5", "log.dirs": "/a"}
    assert settings.origins == {"num.partitions": "command line", "log.dirs": "server.properties"}
