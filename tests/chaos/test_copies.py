"""R6: a topic copied exactly once by programs that are killed, on a broker that is killed, with live readers beside it.

The real thing: `--chaos-records 100000 --chaos-rounds 40`.
"""

from __future__ import annotations

import pytest

from chaos.run import Plan, run

RECORDS_A_SECOND = 2000
RECORDS_A_BATCH = 50


@pytest.mark.parametrize(("workload", "partitions"), [("copy", 3), ("copy-one", 1), ("copy-java", 1)])
@pytest.mark.usefixtures("librdkafka")
def test_the_copy_is_the_original(cluster_kind, request, seed, tmp_path, workload, partitions):
    if workload == "copy-java":
        request.getfixturevalue("apache_kafka")
    records = request.config.getoption("--chaos-records")
    plan = Plan(
        workloads=(workload,),
        faults=("client", "kill"),
        rounds=request.config.getoption("--chaos-rounds"),
        records=records,
        seed=seed,
        cluster=cluster_kind,
        interval=1.0,
        rate=RECORDS_A_SECOND / RECORDS_A_BATCH / partitions,
    )
    outcome = run(plan, tmp_path / "run")
    print(outcome.report)
    assert outcome.verdict.kept, outcome.report
    assert outcome.verdict.acknowledged >= records
    assert outcome.verdict.read == 2 * outcome.verdict.acknowledged, "source and copy"
