"""Python's garbage collector in a process that is a broker and nothing else.

Requests that wait hold thousands of objects at once, none of them in a cycle. As Python sets it, the collector goes
through the young ones after every 700 that were made and through all of a broker's state again and again: a quarter of
the time that a thousand offset commits take.
"""

import gc
from typing import Final

THRESHOLDS: Final = (50_000, 20, 50)
"""Young objects between two looks at them, and how many of those looks there are for one at what is older."""


def relax() -> None:
    """First of all in such a process, before the imports: nearly all of the tens of thousands of objects that a start
    makes stay, and to go through them again and again was a tenth of it."""
    gc.set_threshold(*THRESHOLDS)


def settle() -> None:
    """Once everything is there that stays: it is not looked at again. Not even now, which would take another tenth of
    the start to find a few hundred objects."""
    gc.freeze()
