"""Generates src/ottla/wire/messages/ and src/ottla/wire/api_table.py.

generate_messages.py --extract JARDIR   read the schemas from Kafka's jars into tools/messages/schemas.json
generate_messages.py                    write the Python modules from schemas.json
generate_messages.py --check            compare; exit 1 where a file differs from what would be written
"""

import argparse
import sys
from pathlib import Path

from messages import emit, emit_apis, schema

WIRE = Path(__file__).resolve().parent.parent / "src" / "ottla" / "wire"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extract", metavar="JARDIR", type=Path)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if options.extract:
        schema.SCHEMAS.write_text(schema.extract(options.extract))
    wanted = generate(schema.load())
    present = {path: path.read_text() for path in [*WIRE.glob("messages/*.py"), *WIRE.glob("api_table.py")]}
    if options.check:
        return check(wanted, present)
    for path in present.keys() - wanted.keys():
        path.unlink()
    for path, text in wanted.items():
        if present.get(path) != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return 0


def generate(messages: list[schema.Message]) -> dict[Path, str]:
    """The text of every generated file. Messages that Kafka no longer serves in any version have no module."""
    alive = [message for message in messages if message.valid]
    unstable = {message.api_key for message in alive if message.kind == "request" and message.latest_unstable}
    files = {WIRE / "messages" / "__init__.py": f"{emit.HEADER}\n", WIRE / "api_table.py": emit_apis.module(messages)}
    for message in alive:
        held_back = message.kind in ("request", "response") and message.api_key in unstable
        stable = message.valid.highest - held_back
        files[WIRE / "messages" / f"{message.module}.py"] = emit.module(message, stable)
    return files


def check(wanted: dict[Path, str], present: dict[Path, str]) -> int:
    stale = sorted(path for path in wanted.keys() | present.keys() if wanted.get(path) != present.get(path))
    for path in stale:
        print(f"{path}: differs from what tools/generate_messages.py writes", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
