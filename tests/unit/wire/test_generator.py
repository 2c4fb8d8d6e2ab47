"""The generator: what is checked in is what it writes, and the parts of it that decide."""

import pytest

from generate_messages import WIRE, generate
from messages import layout, schema
from messages.schema import Versions


def test_the_checked_in_modules_are_up_to_date() -> None:
    wanted = generate(schema.load())
    present = {path: path.read_text() for path in [*WIRE.glob("messages/*.py"), WIRE / "api_table.py"]}
    assert sorted(wanted) == sorted(present)
    assert [path.name for path in wanted if wanted[path] != present[path]] == []


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("ThrottleTimeMs", "throttle_time_ms"),
        ("KRaftVersionRecord", "kraft_version_record"),
        ("NoOpRecord", "no_op_record"),
        ("leaderEpoch", "leader_epoch"),
        ("V3AndBelowTopics", "v3_and_below_topics"),
        ("IsrNodes", "isr_nodes"),
    ],
)
def test_snake(name: str, wanted: str) -> None:
    assert schema.snake(name) == wanted


def test_versions() -> None:
    assert Versions.parse("3+") == Versions(3, schema.NEVER)
    assert Versions.parse("2-5") == Versions(2, 5)
    assert Versions.parse("4") == Versions(4, 4)
    assert not Versions.parse("none")
    assert (Versions(0, 5) & Versions(3, 9)) == Versions(3, 5)


def test_conditions_are_as_short_as_the_band_allows() -> None:
    band = layout.Band(versions=Versions(4, 11), flexible=False)
    assert band.condition(Versions(0, schema.NEVER)) == ""
    assert band.condition(Versions(7, schema.NEVER)) == "version >= 7"
    assert band.condition(Versions(11, schema.NEVER)) == "version == 11"
    assert band.condition(Versions(0, 9)) == "version <= 9"
    assert band.condition(Versions(0, 4)) == "version == 4"
    assert band.condition(Versions(5, 6)) == "5 <= version <= 6"
    assert band.condition(Versions(5, 5)) == "version == 5"


def test_fixed_fields_of_different_versions_share_one_run() -> None:
    message = next(message for message in schema.load() if message.name == "FetchRequest")
    spec = message.structs["FetchPartition"]
    planned = layout.plan(spec, layout.Band(versions=Versions(4, 11), flexible=False))
    assert len(planned.steps) == 1
    assert [cut.lowest for cut in layout.cuts(planned.steps[0].atoms, Versions(4, 11))] == [9, 5, 4]
