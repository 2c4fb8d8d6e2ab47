"""The proxy does to a connection what it says, seen from both ends."""

from __future__ import annotations

import gc
import socket
import struct
import threading
import time

import pytest

from harness.processes import wait_until
from harness.proxy import SWAP_SECONDS, Proxy, Weather
from harness.raw import ProtocolFailure, RawConnection

ECHO = 18


class Echo:
    """A broker that answers every request with its own frame, and remembers what arrived."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.arrived = []
        self.threads = [threading.Thread(target=self._accept)]
        self.threads[0].start()

    def close(self):
        """Wait for the ends of all connections, which are others' to close."""
        self.listener.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join(5)
            assert not thread.is_alive()
        self.listener.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.threads.append(threading.Thread(target=self._serve, args=(connection,)))
            self.threads[-1].start()

    def _serve(self, connection):
        with connection, connection.makefile("rb") as file:
            try:
                while len(size := file.read(4)) == 4:
                    length = struct.unpack(">i", size)[0]
                    frame = file.read(length)
                    self.arrived.append(frame if len(frame) == length else b"part")
                    connection.sendall(struct.pack(">i", length) + frame[4:8] + frame[:4] + frame[8:])
            except OSError:
                self.arrived.append(b"reset")


@pytest.fixture
def echo():
    broker = Echo()
    yield broker
    broker.close()


@pytest.fixture
def proxy(echo):
    with Proxy(echo.port, seed=3) as proxy:
        yield proxy


@pytest.fixture
def client(proxy):
    with RawConnection("127.0.0.1", proxy.port, timeout=5) as connection:
        connection.request(ECHO, 0, b"hello")
        yield connection


def ask(connection, size=10, key=ECHO):
    begin = time.monotonic()
    connection.request(key, 0, bytes(size))
    return time.monotonic() - begin


def test_fine_weather_changes_nothing(client, echo):
    assert client.request(ECHO, 0, b"x" * 300_000).buffer.endswith(b"x" * 300_000)
    assert len(echo.arrived) == 2


def test_delay_goes_both_ways(client, proxy):
    proxy.set_weather(Weather(delay_seconds=0.1))
    assert ask(client) >= 0.2
    proxy.clear()
    assert ask(client) < 0.1


def test_throttle(client, proxy):
    proxy.set_weather(Weather(bytes_per_second=50_000))
    assert ask(client, 10_000) >= 0.3


def test_a_blackhole_keeps_the_connection_and_delivers_late(client, proxy, echo):
    proxy.set_weather(Weather(blackhole=True))
    client.send(ECHO, 0, b"late")
    client.socket.settimeout(0.3)
    with pytest.raises(TimeoutError):
        client.receive()
    assert len(echo.arrived) == 1
    proxy.clear()
    client.socket.settimeout(5)
    assert client.receive()[1].endswith(b"late")


def test_half_open_serves_and_does_not_say_so(client, proxy, echo):
    proxy.set_weather(Weather(swallow_answers=True))
    client.send(ECHO, 0, b"done")
    wait_until(lambda: len(echo.arrived) == 2, seconds=5, what="the request")
    client.socket.settimeout(0.3)
    with pytest.raises(TimeoutError):
        client.receive()
    proxy.clear()
    client.socket.settimeout(5)
    with pytest.raises((ConnectionResetError, ProtocolFailure)):
        client.receive()


def test_reset_is_seen_by_both(client, proxy, echo):
    assert proxy.reset() == 1
    with pytest.raises(ConnectionResetError):
        client.socket.recv(1)
    wait_until(lambda: echo.arrived[-1] == b"reset", seconds=5, what="the reset")


def test_half_a_request(client, proxy, echo):
    assert proxy.cut("requests") == 1
    client.send(ECHO, 0, bytes(1000))
    with pytest.raises((ConnectionResetError, ProtocolFailure)):
        client.receive()
    wait_until(lambda: echo.arrived[-1] in (b"part", b"reset"), seconds=5, what="half a frame")


def test_half_an_answer(client, proxy, echo):
    assert proxy.cut("answers") == 1
    client.send(ECHO, 0, bytes(1000))
    assert len(client.socket.recv(4096)) < 1000
    with pytest.raises(ConnectionResetError):
        client.socket.recv(4096)
    assert len(echo.arrived[1]) > 1000


def test_swapped_answers(client, proxy):
    assert proxy.swap() == 1
    first, second = client.send(ECHO, 0, b"first"), client.send(ECHO, 0, b"second")
    assert [client.receive()[0] for _ in range(2)] == [second, first]
    assert proxy.swapped == 1
    # Nothing to swap with: it comes a little late.
    proxy.swap()
    assert ask(client) >= SWAP_SECONDS
    assert proxy.swapped == 1


def test_a_held_request_arrives_after_its_second_attempt(client, proxy, echo):
    proxy.hold(26)
    client.send(26, 0, b"first")
    with pytest.raises((ConnectionResetError, ProtocolFailure)):
        client.receive()
    with RawConnection("127.0.0.1", proxy.port, timeout=5) as again:
        again.request(26, 0, b"second")
        assert [held.api_key for held in proxy.held] == [26]
        assert proxy.release(proxy.held[0]).endswith(b"first")
    assert echo.arrived[1].endswith(b"second")
    assert echo.arrived[2].endswith(b"first")
    assert proxy.held == []


def test_holding_without_cutting_only_makes_it_late(client, proxy):
    proxy.hold(26, cut=False)
    client.send(26, 0, b"first")
    wait_until(lambda: len(proxy.held) == 1, seconds=5, what="the request")
    proxy.clear()
    assert client.receive()[1].endswith(b"first")


def test_a_share_of_the_links_is_the_same_for_the_same_seed(echo):
    def affected():
        with Proxy(echo.port, seed=5) as proxy:
            clients = [RawConnection("127.0.0.1", proxy.port, timeout=5) for _ in range(8)]
            for client in clients:
                client.request(ECHO, 0, b"")
            count = proxy.reset(share=0.5)
            for client in clients:
                client.close()
            return count

    first = affected()
    assert 0 < first < 8
    assert affected() == first


def test_a_target_that_is_down_is_a_reset(echo):
    gone = pytest.raises((ConnectionError, ProtocolFailure))
    with Proxy(1) as proxy, gone, RawConnection("127.0.0.1", proxy.port, timeout=5) as connection:
        connection.request(ECHO, 0, b"")


@pytest.mark.parametrize("leave", ["before", "after"])
def test_it_leaves_nothing_open_whenever_it_is_closed(echo, recwarn, leave):
    """In the middle of accepting, of connecting, of passing something on, of noticing that a client has gone."""
    size = 3_000_000
    for step in range(60):
        with Proxy(echo.port) as proxy:
            client = RawConnection("127.0.0.1", proxy.port, timeout=5)
            if step % 3:
                client.request(ECHO, 0, b"hello")
            if step % 3 == 2:
                client.send(ECHO, 0, bytes(size if step % 2 else 1))
            if leave == "before":
                client.close()
        client.close()
    gc.collect()
    assert [str(warning.message) for warning in recwarn] == []
