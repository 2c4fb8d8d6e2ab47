"""Faults, workloads and a checker in the manner of Jepsen. `python -m tests.chaos --help`; see README.md."""
