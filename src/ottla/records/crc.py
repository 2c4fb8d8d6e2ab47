"""CRC-32C, the checksum of batches and producer snapshots.

The ``crc32c`` package's own import also loads its command line and the packaging metadata: tens of milliseconds of
every start. So its compiled module is loaded by itself, and the package only where it is laid out in another way.
"""

from collections.abc import Callable
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec

__all__ = ["crc32c"]

Crc32c = Callable[..., int]


def _load() -> Crc32c:
    package = find_spec("crc32c")
    spec = PathFinder.find_spec("crc32c._crc32c", package.submodule_search_locations) if package else None
    if spec is not None and spec.loader is not None:
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        function: Crc32c | None = getattr(module, "crc32c", None)
        if function is not None:
            return function
    from crc32c import crc32c as packaged  # noqa: PLC0415 - the fallback

    return packaged


crc32c: Crc32c = _load()
"""``crc32c(data, value=0)``: the checksum of ``data``, continuing ``value``, the checksum of what came before it."""
