"""Writes docs/cli.md and docs/errors.md from the commands; `--check` only compares."""

from __future__ import annotations

import sys
from pathlib import Path

from ottla.cli.reference import errors_markdown, markdown

DOCS = Path(__file__).resolve().parent.parent / "docs"


def main(arguments: list[str]) -> int:
    """Write or compare; the exit status."""
    stale = 0
    for name, text in (("cli.md", markdown()), ("errors.md", errors_markdown())):
        page = DOCS / name
        if page.exists() and page.read_text(encoding="utf-8") == text:
            continue
        if "--check" in arguments:
            print(f"{name} is not what the commands say: run python tools/generate_cli_docs.py", file=sys.stderr)
            stale = 1
        else:
            page.write_text(text, encoding="utf-8")
    return stale


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
