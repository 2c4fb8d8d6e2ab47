"""What the operating system lets this process have."""

import resource

from ottla.runtime.telemetry import get_logger

log = get_logger(__name__)


def raise_open_files_limit() -> int:
    """Allow as many open files as the process may allow itself, as the Java runtime does; returns how many.

    Every partition keeps its active segment open, and the usual 1,024 would not do for a thousand partitions.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return hard
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:
        log.warning("open files stay limited", limit=soft, reason=error)
        return soft
    return hard
