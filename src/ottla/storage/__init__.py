"""Kafka's log directories, byte for byte: segments, indexes, checkpoints, recovery, retention and the group commit.

``Log`` is one partition, ``LogStore`` all of a node, ``GroupCommit`` makes appends durable off the event loop. Every
call into the operating system goes through ``Disk``.
"""
