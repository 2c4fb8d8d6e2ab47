"""The load of the benchmark: librdkafka from C, and Apache Kafka's own Java performance tools."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import oracle
from harness.clusters import LOG_FLAG, class_path

SOURCE = Path(__file__).with_name("rdkafka_load.c")
# The heap its own start script gives a client.
JAVA_FLAGS = ("-Xmx512M", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", LOG_FLAG)
TOOLS = "org.apache.kafka.tools."


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """What one run of a client did."""

    records: int
    seconds: float

    @property
    def per_second(self) -> float:
        return self.records / self.seconds


class NativeClient:
    """`rdkafka_load`, compiled once into a scratch directory against the librdkafka of the confluent-kafka wheel."""

    def __init__(self, scratch: Path) -> None:
        import confluent_kafka

        libraries = Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs"
        library = next(libraries.glob("librdkafka-*.so*"))
        self._program = scratch / "rdkafka_load"
        command = ["gcc", "-O2", "-o", str(self._program), str(SOURCE), str(library)]
        subprocess.run([*command, f"-Wl,-rpath,{libraries}", "-lpthread"], check=True)
        self.version = confluent_kafka.libversion()[0]

    def run(self, mode: str, *arguments: object, **options: str) -> dict[str, float]:
        """One run; options are librdkafka's, with `_` for `.`."""
        pairs = [f"{key.replace('_', '.')}={value}" for key, value in options.items()]
        command = [str(self._program), mode, *map(str, arguments), *pairs]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr[-500:]}")
        return json.loads(done.stdout)

    def start(self, mode: str, *arguments: object, **options: str) -> subprocess.Popen[str]:
        """The same without waiting."""
        pairs = [f"{key.replace('_', '.')}={value}" for key, value in options.items()]
        return subprocess.Popen(
            [str(self._program), mode, *map(str, arguments), *pairs], stdout=subprocess.PIPE, text=True
        )

    def produce(self, bootstrap: str, topic: str, *, partitions: int, count: int, size: int, acks: str) -> Throughput:
        """Produce evenly to all partitions."""
        # Without idempotence acks=1 is possible; it is off for both settings so that they differ in one thing only.
        result = self.run("produce", bootstrap, topic, partitions, count, size, acks=acks)
        return Throughput(records=int(result["records"]), seconds=result["seconds"])

    def consume(self, bootstrap: str, topic: str, *, partitions: int, count: int) -> Throughput:
        """Read all partitions from their start, the time running from the first record on."""
        result = self.run("consume", bootstrap, topic, partitions, count)
        return Throughput(records=int(result["records"]), seconds=result["seconds"])


class JavaClient:
    """ProducerPerformance and ConsumerPerformance with their defaults (16 KB batches)."""

    def _run(self, tool: str, *arguments: str) -> str:
        command = [oracle.require_java(), *JAVA_FLAGS, "-cp", class_path(), TOOLS + tool, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{tool}: {(done.stdout + done.stderr)[-500:]}")
        return done.stdout

    def produce(self, bootstrap: str, topic: str, *, partitions: int, count: int, size: int, acks: str) -> Throughput:
        """Produce with the default partitioner, after as many records again for the compiler.

        It takes a third of two cores for the first ten seconds of a producer's life.
        """
        del partitions
        warm = count
        text = self._run(
            "ProducerPerformance",
            *("--bootstrap-server", bootstrap, "--topic", topic, "--num-records", str(count + warm)),
            *("--warmup-records", str(warm), "--record-size", str(size), "--throughput", "-1"),
            *("--command-property", f"acks={acks}"),
        )
        found = re.findall(r"([\d.]+) records/sec", text)
        return Throughput(records=count, seconds=count / float(found[-1]))

    def consume(self, bootstrap: str, topic: str, *, partitions: int, count: int) -> Throughput:
        """Read everything; the tool's own figure leaves the rebalance out."""
        del partitions
        text = self._run(
            "ConsumerPerformance",
            *("--bootstrap-server", bootstrap, "--topic", topic, "--num-records", str(count)),
            *("--timeout", "60000", "--hide-header"),
        )
        row = next(line for line in text.splitlines() if line.count(",") >= 9)
        return Throughput(records=int(row.split(",")[4]), seconds=int(row.split(",")[7]) / 1000)
