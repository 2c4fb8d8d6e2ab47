"""KRaft, the protocol: who leads, what is committed. Pure: the shell persists, sends and keeps the time.

``raft`` is the machine, ``events`` what happens to it, ``effects`` what it wants done, ``ledger`` what it remembers of
its log, ``progress`` what a leader knows of its followers.
"""
