"""Quotas and metrics. The form of a row is described in ``ottla.config.key``."""

from typing import Final

ROWS: Final = r"""
alter.log.dirs.replication.quota.window.num | int | 11 | low | read-only | 1.. | planned
    Samples kept to throttle moves between directories.
alter.log.dirs.replication.quota.window.size.seconds | int | 1 | low | read-only | 1.. | planned
    Length of a sample to throttle moves between directories.
client.quota.callback.class | class | null | low | read-only | any | refused
    Java class that decides client quotas; not supported.
controller.quota.window.num | int | 11 | low | read-only | 1.. | planned
    Samples kept for quotas on topic changes.
controller.quota.window.size.seconds | int | 1 | low | read-only | 1.. | planned
    Length of a sample for quotas on topic changes.
metric.reporters | list | org.apache.kafka.common.metrics.JmxReporter | low | cluster-wide | any | inert
    Java classes that take metrics.
metrics.num.samples | int | 2 | low | read-only | 1.. | inert
    Samples kept for each metric.
metrics.recording.level | string | INFO | low | read-only | any | inert
    How detailed the Java broker's metrics are.
metrics.sample.window.ms | long | 30000 | low | read-only | 1.. | inert
    Length of a sample of a metric.
quota.window.num | int | 11 | low | read-only | 1.. | active
    Samples kept for quotas, the rate of new connections among them; all but one count.
quota.window.size.seconds | int | 1 | low | read-only | 1.. | active
    Length of a sample for quotas.
replication.quota.window.num | int | 11 | low | read-only | 1.. | planned
    Samples kept to throttle replication.
replication.quota.window.size.seconds | int | 1 | low | read-only | 1.. | planned
    Length of a sample to throttle replication.
telemetry.max.bytes | int | 1048576 | low | read-only | 1.. | planned
    Largest metrics report a client may push.
"""
