"""The send queue against a scripted socket: what goes out, with how many calls, whatever the socket takes."""

import os
import random
from collections.abc import Iterable
from pathlib import Path

import pytest

from harness.regions import CountedRegion
from ottla.net import outbox as outbox_module
from ottla.net.outbox import COPIED_BYTES_MAX, Outbox, Segment, TruncatedRegion


class ScriptedSocket:
    """Takes as many bytes of each call as the script says; 0 is a full socket, after the script everything."""

    def __init__(self, script: Iterable[int] = ()) -> None:
        self.received = b""
        self.calls: list[str] = []
        self._script = iter(script)

    def fileno(self) -> int:
        return -1

    def send(self, data: Segment, flags: int) -> int:
        return self._take("send", bytes(data))  # type: ignore[arg-type]

    def sendmsg(self, buffers: list[bytes], ancillary: object, flags: int) -> int:
        return self._take("sendmsg", b"".join(buffers))

    def sendfile(self, _: int, source: int, position: int, count: int) -> int:
        return self._take("sendfile", os.pread(source, count, position))

    def _take(self, call: str, data: bytes) -> int:
        room = next(self._script, None)
        if room == 0:
            raise BlockingIOError
        self.calls.append(call)
        self.received += data[:room]
        return len(data[:room])


@pytest.fixture
def big_file(tmp_path: Path) -> Path:
    path = tmp_path / "records"
    path.write_bytes(random.Random(7).randbytes(200_000))
    return path


def outbox_of(sock: ScriptedSocket, monkeypatch: pytest.MonkeyPatch) -> Outbox:
    monkeypatch.setattr(outbox_module, "SENDFILE", sock.sendfile)
    return Outbox(sock)  # type: ignore[arg-type]


def test_small_regions_leave_with_their_surroundings_in_one_call(
    big_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sock = ScriptedSocket()
    outbox = outbox_of(sock, monkeypatch)
    regions = [CountedRegion(big_file, 100, COPIED_BYTES_MAX), CountedRegion(big_file, 0, 0)]
    outbox.push([b"head", regions[0], b"between", regions[1], b"tail"])
    assert outbox.drain()
    assert sock.calls == ["sendmsg"]
    expected = big_file.read_bytes()[100 : 100 + COPIED_BYTES_MAX]
    assert sock.received == b"head" + expected + b"between" + b"tail"
    assert [region.released for region in regions] == [1, 1]
    assert outbox.queued_bytes == 0


def test_bulk_leaves_by_sendfile(big_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sock = ScriptedSocket()
    outbox = outbox_of(sock, monkeypatch)
    region = CountedRegion(big_file, 5, COPIED_BYTES_MAX + 1)
    outbox.push([b"head", region, b"tail"])
    assert outbox.drain()
    assert sock.calls == ["send", "sendfile", "send"]
    assert region.released == 1


@pytest.mark.parametrize("seed", range(40))
def test_whatever_the_socket_takes_nothing_is_lost_or_sent_twice(
    big_file: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng = random.Random(seed)
    sock = ScriptedSocket([rng.choice((0, 1, 7, 1000, 20_000, 90_000)) for _ in range(60)])
    outbox = outbox_of(sock, monkeypatch)
    content = big_file.read_bytes()
    regions, expected = [], b""
    for _ in range(rng.randrange(1, 5)):
        segments: list[Segment] = []
        for _ in range(rng.randrange(1, 100)):
            if rng.random() < 0.5:
                size = rng.choice((0, 10, 3000))
                data = rng.randbytes(size)
                segments.append(data if rng.random() < 0.5 else memoryview(data))
                expected += data
            else:
                position, size = rng.randrange(100_000), rng.choice((0, 1, 500, COPIED_BYTES_MAX, 40_000))
                regions.append(CountedRegion(big_file, position, size))
                segments.append(regions[-1])
                expected += content[position : position + size]
        outbox.push(segments)
        outbox.drain()
        assert outbox.queued_bytes == len(expected) - len(sock.received)
    for _ in range(100):
        if outbox.drain():
            break
    assert sock.received == expected
    assert outbox.queued_bytes == 0
    assert {region.released for region in regions} <= {1}


def test_what_is_not_sent_is_released(big_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox = outbox_of(ScriptedSocket([3, 0]), monkeypatch)
    regions = [CountedRegion(big_file, 0, 10), CountedRegion(big_file, 0, 100_000)]
    outbox.push([b"head", *regions])
    assert not outbox.drain()
    outbox.discard()
    assert [region.released for region in regions] == [1, 1]
    assert outbox.queued_bytes == 0


def test_a_file_that_ends_inside_a_region_is_an_error(big_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for size in (10, COPIED_BYTES_MAX + 1):
        outbox = outbox_of(ScriptedSocket(), monkeypatch)
        region = CountedRegion(big_file, 199_995, size)
        outbox.push([region])
        with pytest.raises(TruncatedRegion):
            outbox.drain()
        outbox.discard()
        assert region.released == 1
