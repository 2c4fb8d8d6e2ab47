"""The kinds of resources that can be configured, with Kafka's numbers. Apart, so that `--help` needs nothing else."""

from typing import Final

RESOURCES: Final = {"topic": 2, "broker": 4, "broker-logger": 8, "client-metrics": 16, "group": 32}
