"""Live names for the shell: what the cluster has, remembered for a few seconds in a file of the person's own.

The shell waits for the answer, so a cluster that does not answer at once is not waited for, and nothing is ever said.
"""

import asyncio
import hashlib
import os
import time
from pathlib import Path
from typing import Any, Final, Literal

import click
import msgspec
from click.shell_completion import CompletionItem

from ottla.cli.connection import Connection
from ottla.cli.options import connect, run_client

CACHE_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 1.5
Kind = Literal["topics", "groups"]


def names(ctx: click.Context, kind: Kind, begun: str) -> list[CompletionItem]:
    """The names that begin as typed. Nothing when they cannot be had."""
    given = ctx.params
    try:
        connection = connect(
            given.get("bootstrap"), given.get("profile"), given.get("settings") or (), given.get("command_config")
        )
        known = _remembered(kind, connection)
    except Exception:
        # Whatever is wrong will be told when the command runs; here it would garble the prompt.
        return []
    return [CompletionItem(name) for name in known if name.startswith(begun)]


def _remembered(kind: Kind, connection: Connection) -> list[str]:
    path = _cache_file(kind, connection)
    try:
        if time.time() - path.stat().st_mtime < CACHE_SECONDS:
            return msgspec.json.decode(path.read_bytes(), type=list[str])
    except (OSError, msgspec.MsgspecError):
        pass
    found: list[str] = run_client(_ask(kind, connection))
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = path.with_name(f"{path.name}.{os.getpid()}")
        temporary.write_bytes(msgspec.json.encode(found))
        temporary.replace(path)
    except OSError:
        pass
    return found


async def _ask(kind: Kind, connection: Connection) -> list[str]:
    async with asyncio.timeout(ANSWER_SECONDS), connection.admin() as admin:
        if kind == "topics":
            return [topic.name for topic in await admin.list_topics(internal=True)]
        return sorted(group.group_id for group in await admin.list_groups())


def _cache_file(kind: Kind, connection: Connection) -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    settings: Any = sorted(connection.config.items())
    key = hashlib.sha256(msgspec.json.encode(settings)).hexdigest()[:16]
    return Path(home) / "ottla" / f"{kind}-{key}.json"
