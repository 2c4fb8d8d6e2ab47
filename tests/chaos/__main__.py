"""`python -m tests.chaos`: one run and its verdict, or a second look at a history."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
for place in (HERE.parent, HERE.parent.parent / "tools"):
    if str(place) not in sys.path:
        sys.path.insert(0, str(place))

from chaos.checker import check  # noqa: E402  # the path above comes first
from chaos.history import load  # noqa: E402
from chaos.images import explore  # noqa: E402
from chaos.nemesis import FAULTS, GROUPS, UnknownFault  # noqa: E402
from chaos.report import summary  # noqa: E402
from chaos.run import Plan, new_seed, run, scratch_directory  # noqa: E402
from chaos.workloads.table import GROUPS as WORKLOAD_GROUPS  # noqa: E402
from chaos.workloads.table import WORKLOADS, UnknownWorkload  # noqa: E402
from harness.planted import BUGS  # noqa: E402


def main(arguments: list[str] | None = None) -> int:
    """0: every promise was kept; 1: one was broken; 2: the command was wrong."""
    options = _parser().parse_args(arguments)
    if options.check:
        history = load(options.check)
        verdict = check(history)
        print(summary(history, verdict))
        return 0 if verdict.kept else 1
    seed = new_seed() if options.seed is None else options.seed
    directory = options.out or scratch_directory()
    plan = Plan(
        workloads=tuple(options.workload.split(",")),
        faults=tuple(options.faults.split(",")),
        seconds=options.seconds,
        rounds=options.rounds,
        seed=seed,
        cluster=options.cluster,
        rate=options.rate,
        interval=options.interval,
        records=options.records,
        images=options.images,
        config=dict(pair.split("=", 1) for pair in options.config),
        bug=options.bug or "",
    )
    print(f"{plan.about}: seed {seed}, in {directory}", flush=True)
    try:
        outcome = run(plan, directory, say=say)
        if plan.images and outcome.verdict.kept:
            outcome = explore(plan, outcome, say=say)
    except (UnknownFault, UnknownWorkload) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(outcome.report)
    if not outcome.verdict.kept:
        print(f"  again        python -m tests.chaos {' '.join(_again(sys.argv[1:], seed))}")
    return 0 if outcome.verdict.kept else 1


def say(text: str) -> None:
    """Tell how far it is."""
    print(text, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description="Load a broker, break things, read everything back, and say which promise was broken, if any.",
        epilog="workloads: "
        + "; ".join(f"{workload.name} ({workload.about})" for workload in WORKLOADS.values())
        + f"; groups of them: {', '.join(WORKLOAD_GROUPS)}. "
        + f"faults: {', '.join(FAULTS)}; groups of them: {', '.join(GROUPS)}.",
    )
    parser.add_argument("--seconds", type=float, default=30.0, help="how long to load (default 30)")
    parser.add_argument("--rounds", type=int, default=0, help="break something so many times, instead of --seconds")
    parser.add_argument("--seed", type=int, help="repeat a run; without it one is drawn and printed")
    parser.add_argument("--faults", default="kill", help="comma-separated (default kill)")
    parser.add_argument("--workload", default="log", help="comma-separated (default log)")
    parser.add_argument("--cluster", choices=("ottla", "apache"), default="ottla")
    parser.add_argument("--rate", type=float, default=100.0, help="operations a second (default 100)")
    parser.add_argument("--records", type=int, default=10_000, help="how much a copy workload copies (default 10000)")
    parser.add_argument("--images", type=int, default=0, help="then start a node on so many images of power cuts")
    parser.add_argument("--interval", type=float, default=3.0, help="seconds between faults on average (default 3)")
    parser.add_argument("-c", "--config", action="append", default=[], metavar="KEY=VALUE", help="a broker setting")
    parser.add_argument("--bug", choices=sorted(BUGS), help="plant this bug in Ottla; the verdict has to see it")
    parser.add_argument("--out", type=Path, help="where data and history go (default: a fresh directory)")
    parser.add_argument("--check", type=Path, metavar="HISTORY", help="judge a history again, run nothing")
    return parser


def _again(arguments: list[str], seed: int) -> list[str]:
    return arguments if "--seed" in arguments else [*arguments, "--seed", str(seed)]


if __name__ == "__main__":
    sys.exit(main())
