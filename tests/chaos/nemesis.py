"""Faults, and the seeded schedule by which they come and go.

A fault begins, lasts, and ends; the same seed gives the same schedule. A quarter of the periods is free of faults, so
that the system under test also has to be right when nothing happens.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from chaos.history import NEMESIS, History
from harness.clusters import ApacheNode, OttlaNode
from harness.power import JOURNAL, cut_power
from harness.proxy import Proxy, Weather

QUIET_SHARE = 0.25
DOWN_SECONDS = (0.0, 1.0)
DISK_MILLISECONDS = (50, 800)
# Produce and what adds partitions and groups to a transaction: a late attempt must do no harm, whoever the client is.
# Not what ends a transaction or commits offsets: clients before transaction version 2 have no defence (see README).
HELD_APIS = (0, 24, 25)

Node = OttlaNode | ApacheNode


class Target(Struct, kw_only=True):
    """What there is to break."""

    node: Node
    proxy: Proxy
    shim_order: Path | None = None
    cuts: int = 0
    """How often the power was cut."""
    copiers: list[Any] = []
    start_seconds: list[float] = []
    """How long each start after a fault took."""


class Fault(Struct, kw_only=True, frozen=True):
    """`begin` breaks something and may say how; `end` mends it. At most one fault of an `area` at a time."""

    name: str
    area: str
    begin: Callable[[Target, random.Random], str]
    end: Callable[[Target], None]
    seconds: tuple[float, float] = (0.2, 3.0)


def _kill(target: Target, _: random.Random) -> str:
    target.node.kill()
    return ""


def _stop(target: Target, _: random.Random) -> str:
    target.node.stop()
    return ""


def _pause(target: Target, _: random.Random) -> str:
    target.node.pause()
    return ""


def _power(target: Target, dice: random.Random) -> str:
    target.node.kill()
    seed = dice.randrange(1 << 30)
    cut_power(target.node.data, Path(target.node.env[JOURNAL]), seed)
    # What is there now is on the disk: another record begins.
    target.cuts += 1
    target.node.env[JOURNAL] = str(target.node.data.with_name(f"journal-{target.cuts}"))
    return f"image {seed}"


def _start(target: Target) -> None:
    began = time.monotonic()
    target.node.start()
    target.start_seconds.append(time.monotonic() - began)


def _resume(target: Target) -> None:
    target.node.resume()


def _kill_client(target: Target, dice: random.Random) -> str:
    if not target.copiers:
        return "nobody there"
    copier = dice.choice(target.copiers)
    copier.kill()
    return str(copier.name)


def _slow_disk(target: Target, dice: random.Random) -> str:
    assert target.shim_order is not None
    milliseconds = dice.randint(*DISK_MILLISECONDS)
    target.shim_order.write_text(f"sleep {milliseconds}")
    return f"{milliseconds} ms a sync"


def _fast_disk(target: Target) -> None:
    assert target.shim_order is not None
    target.shim_order.write_text("")


def _weather(make: Callable[[random.Random], Weather]) -> Callable[[Target, random.Random], str]:
    def begin(target: Target, dice: random.Random) -> str:
        share = dice.choice((0.3, 0.6, 1.0))
        target.proxy.set_weather(make(dice), share=share)
        return f"{share:.0%} of the links"

    return begin


def _reset(target: Target, dice: random.Random) -> str:
    return f"{target.proxy.reset(share=dice.choice((0.3, 1.0)))} links"


def _cut(target: Target, dice: random.Random) -> str:
    direction = dice.choice(("requests", "answers"))
    return f"{target.proxy.cut(direction, share=dice.choice((0.3, 1.0)))} links, {direction}"


def _hold(target: Target, dice: random.Random) -> str:
    api_key = dice.choice(HELD_APIS)
    target.proxy.hold(api_key)
    return f"API {api_key}"


def _clear(target: Target) -> None:
    target.proxy.clear()


FAULTS = {
    fault.name: fault
    for fault in (
        Fault(name="kill", area="node", begin=_kill, end=_start, seconds=DOWN_SECONDS),
        Fault(name="stop", area="node", begin=_stop, end=_start, seconds=DOWN_SECONDS),
        Fault(name="pause", area="node", begin=_pause, end=_resume),
        Fault(name="power", area="node", begin=_power, end=_start, seconds=DOWN_SECONDS),
        Fault(name="client", area="client", begin=_kill_client, end=lambda _: None, seconds=DOWN_SECONDS),
        Fault(name="disk", area="disk", begin=_slow_disk, end=_fast_disk),
        Fault(name="blackhole", area="network", begin=_weather(lambda _: Weather(blackhole=True)), end=_clear),
        Fault(name="half-open", area="network", begin=_weather(lambda _: Weather(swallow_answers=True)), end=_clear),
        Fault(
            name="delay",
            area="network",
            begin=_weather(lambda dice: Weather(delay_seconds=dice.uniform(0.01, 0.3))),
            end=_clear,
        ),
        Fault(
            name="throttle",
            area="network",
            begin=_weather(lambda dice: Weather(bytes_per_second=dice.uniform(5e3, 1e5))),
            end=_clear,
        ),
        Fault(name="reset", area="network", begin=_reset, end=_clear),
        Fault(name="cut", area="network", begin=_cut, end=_clear),
        Fault(name="hold", area="network", begin=_hold, end=_clear),
    )
}
GROUPS = {
    "none": (),
    "proxy": tuple(name for name, fault in FAULTS.items() if fault.area == "network"),
    "all": tuple(name for name in FAULTS if name not in ("power", "client")),
}


class UnknownFault(ValueError):
    """A name that is neither a fault nor a group of them."""


def faults_named(names: Iterable[str]) -> list[Fault]:
    """The faults of these names; groups count for all of theirs."""
    found: dict[str, Fault] = {}
    for name in names:
        if name not in FAULTS and name not in GROUPS:
            raise UnknownFault(f"{name} is none of {', '.join([*FAULTS, *GROUPS])}")
        found |= {one: FAULTS[one] for one in GROUPS.get(name, (name,))}
    return list(found.values())


class Nemesis(threading.Thread):
    """Breaks and mends until told to stop, then leaves everything whole."""

    def __init__(
        self, target: Target, faults: Sequence[Fault], history: History, *, seed: int, interval: float
    ) -> None:
        super().__init__(name=NEMESIS, daemon=True)
        self.failure: BaseException | None = None
        self.enough = threading.Event()
        self.periods = 0
        """How often something was broken and mended."""
        self._target = target
        self._faults = faults
        self._history = history
        self._dice = random.Random(f"nemesis {seed}")
        self._interval = interval

    def run(self) -> None:
        try:
            while self._faults and not self.enough.wait(self._dice.expovariate(1 / self._interval)):
                self.period()
        except BaseException as failure:  # the run raises it again
            self.failure = failure

    def period(self) -> None:
        """One choice of faults, from the first that begins to the last that ends."""
        chosen = self._choose()
        for fault in chosen:
            said = fault.begin(self._target, self._dice)
            self._history.mark(NEMESIS, fault.name, said)
        low, high = max((fault.seconds for fault in chosen), default=(0.0, 1.0))
        self.enough.wait(self._dice.uniform(low, high))
        for fault in reversed(chosen):
            fault.end(self._target)
        if chosen:
            self.periods += 1
            self._history.mark(NEMESIS, "heal", " ".join(fault.name for fault in chosen))

    def finish(self) -> None:
        """End with everything mended; raises what went wrong."""
        self.enough.set()
        self.join(180)
        assert not self.is_alive(), "the nemesis hangs"
        if self.failure is not None:
            raise self.failure

    def _choose(self) -> list[Fault]:
        if self._dice.random() < QUIET_SHARE:
            return []
        wanted = self._dice.sample(self._faults, min(len(self._faults), self._dice.choice((1, 1, 2))))
        return list({fault.area: fault for fault in wanted}.values())


def compiler() -> str | None:
    """The C compiler, if there is one."""
    return shutil.which("gcc") or shutil.which("cc")


def build_shim(directory: Path) -> Path:
    """Compile the library that slows down or fails every sync."""
    program = compiler()
    assert program is not None, "no C compiler for the disk shim"
    library = directory / "shim.so"
    source = Path(__file__).with_name("disk_shim.c")
    subprocess.run([program, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


def environment(node: Any, faults: Iterable[Fault], directory: Path) -> Path | None:
    """Prepare a node for what these faults need; the file for orders to the disk shim."""
    names = {fault.name for fault in faults}
    if "disk" not in names:
        return None
    order = directory / "disk-order"
    order.write_text("")
    node.env |= {"LD_PRELOAD": str(build_shim(directory)), "OTTLA_SHIM": str(order)}
    return order
