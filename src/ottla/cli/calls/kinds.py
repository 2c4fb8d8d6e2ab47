"""The kinds of resources that can be configured. Apart, so that `--help` needs nothing else."""

from typing import Final

RESOURCES: Final = ("topic", "broker", "broker-logger", "client-metrics", "group")
