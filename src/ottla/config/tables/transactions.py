"""Transactions. The form of a row is described in ``ottla.config.key``."""

from typing import Final

ROWS: Final = r"""
add.partitions.to.txn.retry.backoff.max.ms | int | 100 | high | read-only | 0.. | active
    Longest time the broker retries to add a partition to a transaction.
add.partitions.to.txn.retry.backoff.ms | int | 20 | high | read-only | 1.. | active
    Pause between two tries to add a partition to a transaction.
transaction.abort.timed.out.transaction.cleanup.interval.ms | int | 10000 | low | read-only | 1.. | active
    How often transactions that ran out of time are aborted.
transaction.max.timeout.ms | int | 900000 | high | read-only | 1.. | active
    Longest timeout a producer may ask for its transactions.
transaction.partition.verification.enable | boolean | true | low | cluster-wide | any | active
    Check that a partition belongs to the transaction before records are written.
transaction.remove.expired.transaction.cleanup.interval.ms | int | 3600000 | low | read-only | 1.. | active
    How often expired transactional ids are removed.
transaction.state.log.load.buffer.size | int | 5242880 | high | read-only | 1.. | active
    Bytes read at a time when transaction state is loaded.
transaction.state.log.min.isr | int | 2 | high | read-only | or -1 1.. | active
    In-sync replicas the transaction topic needs; -1 takes two or as many brokers as there are.
transaction.state.log.num.partitions | int | 50 | high | read-only | 1.. | active
    Partitions of the transaction topic; must not change once it exists.
transaction.state.log.replication.factor | short | 3 | high | read-only | or -1 1.. | active
    Replicas of the transaction topic; -1 takes three or as many brokers as there are.
transaction.state.log.segment.bytes | int | 104857600 | high | read-only | 1.. | active
    Segment size of the transaction topic.
transaction.two.phase.commit.enable | boolean | false | low | read-only | any | planned
    Let producers take part in an external two-phase commit.
transactional.id.expiration.ms | int | 604800000 | high | read-only | 1.. | active
    A transactional id that is unused for this long is forgotten.
"""
