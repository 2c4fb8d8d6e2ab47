"""Writes the table of APIs."""

import re

from messages.emit import HEADER
from messages.schema import Message


def module(messages: list[Message]) -> str:
    requests = sorted((message for message in messages if message.kind == "request"), key=lambda m: m.api_key)
    responses = {message.api_key: message for message in messages if message.kind == "response"}
    lines = [HEADER, "", "from enum import IntEnum", "", "", "class ApiKey(IntEnum):"]
    lines += [f"    {_constant(message)} = {message.api_key}" for message in requests]
    lines += [
        "",
        "",
        "# key: (request module, response module, lowest, highest, latest stable, flexible from, listeners)",
        "ROWS: dict[int, tuple[str, str, int, int, int, int, tuple[str, ...]]] = {",
    ]
    for request in requests:
        if request.valid:
            lines += _row(request, responses[request.api_key])
    return "\n".join([*lines, "}", ""])


def _row(request: Message, response: Message) -> list[str]:
    assert (request.valid, request.flexible_from) == (response.valid, response.flexible_from), request.name
    highest = request.valid.highest
    stable = highest - request.latest_unstable
    listeners = ", ".join(f'"{name}"' for name in request.listeners) + ("," if len(request.listeners) == 1 else "")
    parts = [
        f'"{request.module}"',
        f'"{response.module}"',
        f"{request.valid.lowest}",
        f"{highest}",
        f"{stable}",
        f"{request.flexible_from}",
        f"({listeners})",
    ]
    line = f"    {request.api_key}: ({', '.join(parts)}),"
    if len(line) <= 120:
        return [line]
    return [f"    {request.api_key}: (", *(f"        {part}," for part in parts), "    ),"]


def _constant(message: Message) -> str:
    name = message.name.removesuffix("Request")
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).upper()
