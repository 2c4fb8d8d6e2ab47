"""The rules of replicated partitions: the leader's ledger of its followers, and fetch sessions. Pure."""
