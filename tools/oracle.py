"""Apache Kafka's jars, the oracle that tests and benchmarks compare with.

`python tools/oracle.py` prints the directory that holds them, after fetching them through Maven when they are missing.
`OTTLA_KAFKA_LIBS` names a directory that has them already; otherwise they live in `libs` of the cache, which is
`OTTLA_ORACLE_CACHE` or `.oracle` in this repository.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

KAFKA_VERSION = "4.3.1"
REPOSITORY = Path(__file__).resolve().parent.parent

# Artifact and classifier; everything else arrives as a dependency. The poms bring the logging interface but no binding,
# hence slf4j-simple; kafka-streams and the test classifiers carry the verifier programs.
ARTIFACTS: tuple[tuple[str, str, str, str], ...] = (
    ("org.apache.kafka", "kafka_2.13", KAFKA_VERSION, ""),
    ("org.apache.kafka", "kafka-tools", KAFKA_VERSION, ""),
    ("org.apache.kafka", "kafka-streams", KAFKA_VERSION, ""),
    ("org.apache.kafka", "trogdor", KAFKA_VERSION, ""),
    ("org.apache.kafka", "kafka-clients", KAFKA_VERSION, "test"),
    ("org.apache.kafka", "kafka-streams", KAFKA_VERSION, "test"),
    ("org.slf4j", "slf4j-simple", "1.7.36", ""),
)


class OracleMissing(Exception):
    """The jars, or what is needed to fetch or run them, are not here. The text says what to do."""


def require_java() -> str:
    """The `java` executable, or `OracleMissing`."""
    java = shutil.which("java")
    if java is None:
        raise OracleMissing("no `java` on PATH (Java 17 or newer runs Apache Kafka)")
    return java


def cache() -> Path:
    """Where downloads of the tests are kept."""
    return Path(os.environ.get("OTTLA_ORACLE_CACHE") or REPOSITORY / ".oracle")


def libraries(*, fetch: bool = True) -> Path:
    """The directory of the jars; fetches them once when `fetch` is set, else raises `OracleMissing`."""
    given = os.environ.get("OTTLA_KAFKA_LIBS")
    directory = Path(given) if given else cache() / "libs"
    if _complete(directory):
        return directory
    if given:
        raise OracleMissing(f"OTTLA_KAFKA_LIBS={given} has no kafka_2.13-{KAFKA_VERSION}.jar")
    if not fetch:
        raise OracleMissing("Apache Kafka's jars are not fetched yet: run `python tools/oracle.py`")
    _fetch(directory)
    return directory


def _complete(directory: Path) -> bool:
    return (directory / f"kafka_2.13-{KAFKA_VERSION}.jar").is_file() and any(directory.glob("slf4j-simple-*.jar"))


def _fetch(directory: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise OracleMissing("no `mvn` on PATH to fetch Apache Kafka's jars (or set OTTLA_KAFKA_LIBS)")
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent) as scratch:
        pom = Path(scratch) / "pom.xml"
        pom.write_text(_pom())
        target = Path(scratch) / "libs"
        command = [maven, "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", "-DincludeScope=runtime"]
        done = subprocess.run([*command, f"-DoutputDirectory={target}"], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise OracleMissing(f"Maven could not fetch Apache Kafka: {(done.stdout + done.stderr)[-400:]}")
        # A fetch that another process finished meanwhile is as good as ours.
        if not _complete(directory):
            shutil.rmtree(directory, ignore_errors=True)
            target.rename(directory)


def _pom() -> str:
    rows = []
    for group, artifact, version, classifier in ARTIFACTS:
        extra = f"<classifier>{classifier}</classifier>" if classifier else ""
        rows.append(
            f"<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>"
            f"<version>{version}</version>{extra}</dependency>"
        )
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>ottla</groupId><artifactId>oracle</artifactId><version>1</version>"
        f"<dependencies>{''.join(rows)}</dependencies></project>\n"
    )


def main() -> int:
    """Print the directory of the jars; say what is missing on stderr and exit 1."""
    try:
        require_java()
        print(libraries())
    except OracleMissing as missing:
        print(f"oracle: {missing}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
