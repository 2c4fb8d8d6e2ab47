"""An Ottla broker inside a test process: ``KafkaBroker``, and the pytest plugin with the fixture ``kafka``.

Importing this package, and so the plugin, loads nothing of the broker: a test run that does not use it pays nothing.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ottla.testing.broker import KafkaBroker as KafkaBroker

__all__ = ["KafkaBroker"]


def __getattr__(name: str) -> object:
    if name == "KafkaBroker":
        from ottla.testing.broker import KafkaBroker  # noqa: PLC0415 - see above

        return KafkaBroker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
