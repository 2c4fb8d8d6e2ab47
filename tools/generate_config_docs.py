"""Writes docs/configuration.md from the configuration table; `--check` only compares."""

from __future__ import annotations

import sys
from pathlib import Path

from ottla.config.reference import markdown

PAGE = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"


def main(arguments: list[str]) -> int:
    """Write or compare; the exit status."""
    text = markdown()
    if "--check" in arguments:
        if PAGE.exists() and PAGE.read_text(encoding="utf-8") == text:
            return 0
        print(f"{PAGE.name} is not what the table says: run python tools/generate_config_docs.py", file=sys.stderr)
        return 1
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
