"""What fuzzers share: the bounds of one input, Java's golden frames, the way to run under atheris or hypothesis."""

from __future__ import annotations

import importlib.util
import resource
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
INPUT_BYTES_MAX = 65_536
CPU_SECONDS_MAX = 0.1
GROWTH_BYTES_MAX = 64 << 20


def resident_peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


_base_bytes = [resident_peak_bytes()]
"""Measured again when a fuzzer begins: what ran before it in the same process may have needed more."""


def bounded(call: Callable[[], object], size: int) -> None:
    """Fails where an input of ``size`` bytes costs more time or memory than any may.

    An input that is slow is slow every time; a collection of garbage that other tests left falls on one call only.
    """
    spent = min(_seconds_until_quick(call))
    grown = resident_peak_bytes() - _base_bytes[0]
    assert spent < CPU_SECONDS_MAX, f"{spent:.3f} s for {size} bytes"
    assert grown < GROWTH_BYTES_MAX, f"grown by {grown >> 20} MiB"


def _seconds_until_quick(call: Callable[[], object]) -> Iterator[float]:
    """The CPU seconds of up to three calls; no further ones once it was quick."""
    for _ in range(3):
        started = time.process_time()
        call()
        spent = time.process_time() - started
        yield spent
        if spent < CPU_SECONDS_MAX:
            return


def golden_frames() -> Iterator[tuple[str, int, bytes]]:
    """Name, version and bytes of every message that Java's own classes wrote."""
    data = zlib.decompress((ROOT / "tests" / "data" / "golden" / "messages.bin").read_bytes())
    pos = 0
    while pos < len(data):
        size = int.from_bytes(data[pos : pos + 2])
        name = data[pos + 2 : pos + 2 + size].decode()
        pos += 2 + size
        pos += 4 + int.from_bytes(data[pos : pos + 4])
        version, size = int.from_bytes(data[pos : pos + 2], signed=True), int.from_bytes(data[pos + 2 : pos + 6])
        yield name, version, data[pos + 6 : pos + 6 + size]
        pos += 6 + size


def run_atheris(one_input: Callable[[bytes], None], seeds: Iterable[bytes]) -> None:
    """Fuzz until libFuzzer's options say stop."""
    import atheris

    _base_bytes[0] = resident_peak_bytes()
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds):
            Path(corpus, f"{number:05}").write_bytes(seed)
        arguments = [*sys.argv, corpus]
        if not any(argument.startswith("-max_len") for argument in arguments):
            arguments.append(f"-max_len={INPUT_BYTES_MAX}")
        atheris.Setup(arguments, one_input)
        atheris.Fuzz()


def load(path: Path) -> ModuleType:
    """A fuzzer as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    _base_bytes[0] = resident_peak_bytes()
    return module
