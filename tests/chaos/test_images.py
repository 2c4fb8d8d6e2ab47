"""R3 with a whole node: whatever a power cut left of its directory, it starts, and owes nothing it has acknowledged.

More: `--chaos-images 1000`. The storage layer alone is cut in `tests/unit/storage/test_power_cuts.py`.
"""

from __future__ import annotations

import pytest

from chaos.images import explore
from chaos.run import Plan, run

ACKNOWLEDGED_TOO_EARLY = {"unseen", "lost-write", "went-back", "inconsistent-offsets", "torn"}


@pytest.fixture
def cut(cluster_kind, tmp_path):
    if cluster_kind == "apache":
        pytest.skip("its writes cannot be recorded, and it acknowledges before it flushes")

    def explored(plan):
        outcome = run(plan, tmp_path / "run")
        assert outcome.verdict.kept, outcome.report
        return explore(plan, outcome)

    return explored


@pytest.mark.parametrize("faults", ["none", "kill"])
@pytest.mark.usefixtures("librdkafka")
def test_a_node_starts_on_every_image_and_owes_nothing(cut, request, seed, faults):
    """Also where it went on with what a killed process had written and not synced."""
    images = request.config.getoption("--chaos-images")
    plan = Plan(
        workloads=("log", "txn", "group"), faults=(faults,), seconds=6, interval=1, rate=60, seed=seed, images=images
    )
    outcome = cut(plan)
    print(outcome.report)
    assert outcome.verdict.kept, outcome.report
    assert len(outcome.start_seconds) == images


@pytest.mark.usefixtures("planted")
def test_an_acknowledgement_before_the_flush_is_seen_in_an_image(cut):
    plan = Plan(workloads=("log",), faults=("none",), seconds=3, seed=1, images=20, bug="acknowledge-before-flush")
    outcome = cut(plan)
    print(outcome.report)
    assert outcome.verdict.rules & ACKNOWLEDGED_TOO_EARLY
