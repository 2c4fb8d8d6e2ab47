"""How long the test broker takes: import, start until a client was answered, stop. Prints one JSON object."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from harness.raw import RawConnection  # the path above comes first

begin = time.perf_counter()
from ottla.testing.broker import KafkaBroker  # noqa: E402  # its import is part of what is measured

imported = time.perf_counter()
with KafkaBroker() as kafka:
    host, port = kafka.bootstrap_servers.split(":")
    with RawConnection(host, int(port)) as connection:
        connection.api_versions()
        usable = time.perf_counter()
stopped = time.perf_counter()
milliseconds = {
    "import_ms": (imported - begin) * 1e3,
    "usable_ms": (usable - imported) * 1e3,
    "stop_ms": (stopped - usable) * 1e3,
}
print(json.dumps(milliseconds))
