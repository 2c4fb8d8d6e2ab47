"""Transactions and the idempotent producer. Pure."""
