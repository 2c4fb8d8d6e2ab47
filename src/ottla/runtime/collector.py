"""Python's garbage collector in a process that is a broker and nothing else.

Requests that wait hold thousands of objects at once, none of them in a cycle. As Python sets it, the collector goes
through the young ones after every 700 that were made and through all of a broker's state again and again: a quarter of
the time that a thousand offset commits take.
"""

import gc
from typing import Final

THRESHOLDS: Final = (50_000, 20, 50)
"""Young objects between two looks at them, and how many of those looks there are for one at what is older."""


def settle() -> None:
    """Once everything is there that stays: it is not looked at again, and what comes is looked at less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
