"""What the tests of whole processes share: clusters of either kind, a raw protocol client, a history checker.

`tests/conftest.py` puts the tests directory on the import path, so that tests (and `bench/`) import it as `harness`.
"""
