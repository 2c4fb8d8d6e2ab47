"""Writes `src/ottla/client/sync/`: the blocking faces of Producer, Consumer and Admin, from the asynchronous ones.

A method becomes its namesake with the same parameters, its coroutine being run in the client's own thread; asynchronous
iterators and context managers become plain ones. What blocks differently is written here by hand (`OVERRIDES`).
`python tools/generate_sync_client.py --check` says whether the files are what would be written.
"""

from __future__ import annotations

import argparse
import ast
import builtins
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLIENT = ROOT / "src" / "ottla" / "client"
TARGET = CLIENT / "sync"
CLASSES = {"Producer": "_producer", "Consumer": "_consumer", "Admin": "_admin"}
RENAMED = {"__aenter__": "__enter__", "__aexit__": "__exit__"}

OVERRIDES = {
    ("Producer", "send"): '''
def send(BLOCK_PARAMETERS) -> RecordMetadata:
    """Send a record and wait until it is acknowledged. Raises ``KafkaError``."""
    return self.send_soon(BLOCK_ARGUMENTS).result()
''',
    ("Producer", "send_soon"): '''
def send_soon(BLOCK_PARAMETERS) -> Future[RecordMetadata]:
    """Queue a record; the future tells its fate. Waits only while the client is far behind."""
    return self._hand_over.put((BLOCK_POSITIONAL), {BLOCK_KEYWORDS})
''',
    ("Producer", "send_counted"): "",
    ("Producer", "send_many"): '''
def send_many(
    self,
    topic: str,
    records: Iterable[Any],
    *,
    partition: int | None = None,
    timestamp_ms: int | None = None,
) -> int:
    """Send records, given as values or as pairs ``(key, value)``, and wait; the number acknowledged.

    Raises the first error there was.
    """

    async def sent() -> int:
        return await (await self._client.send_many(topic, records, partition=partition, timestamp_ms=timestamp_ms))

    self._hand_over.wait_empty()
    return self._portal.run(sent())
''',
    ("Producer", "flush"): '''
def flush(self, timeout_ms: float | None = None) -> None:
    """Wait until the fate of everything queued so far is known. Raises ``TimeoutError``."""
    self._hand_over.wait_empty()
    self._portal.run(self._client.flush(timeout_ms))
''',
    ("Producer", "close"): '''
def close(self, *, flush: bool = True) -> None:
    """Send what is queued, unless ``flush`` is false, and close. What is not acknowledged by then fails."""
    try:
        if flush:
            self._hand_over.wait_empty()
        self._portal.run(self._client.close(flush=flush))
    finally:
        self._portal.close()
''',
    ("Producer", "commit_transaction"): '''
def commit_transaction(self) -> None:
    """Make everything since its beginning visible. Raises ``KafkaError``; abort then, unless it is ``fatal``."""
    self._hand_over.wait_empty()
    self._portal.run(self._client.commit_transaction())
''',
    ("Producer", "abort_transaction"): '''
def abort_transaction(self) -> None:
    """Undo everything since its beginning."""
    self._hand_over.wait_empty()
    self._portal.run(self._client.abort_transaction())
''',
    ("Producer", "transaction"): '''
@contextmanager
def transaction(self) -> Iterator[Self]:
    """``with producer.transaction():`` commits at the end of the block and aborts when it raises."""
    with self._portal.context(self._client.transaction()):
        try:
            yield self
        finally:
            self._hand_over.wait_empty()
''',
    ("Consumer", "__aiter__"): """
def __iter__(self) -> Iterator[ConsumerRecord]:
    for batch in self.batches():
        yield from batch
""",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    arguments = parser.parse_args()
    stale = []
    for name, module in CLASSES.items():
        text = _formatted(generate(name, module))
        path = TARGET / f"{module}.py"
        if arguments.check:
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                stale.append(path)
        else:
            path.write_text(text, encoding="utf-8")
    for path in stale:
        print(f"{path.relative_to(ROOT)} is not what tools/generate_sync_client.py writes")
    return 1 if stale else 0


def generate(name: str, module: str) -> str:
    """The text of one blocking module."""
    tree = ast.parse((CLIENT / f"{module}.py").read_text(encoding="utf-8"))
    source = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    methods = [node for node in source.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    body = [_method(name, node) for node in methods if not node.name.startswith("_") or node.name in _SPECIAL]
    text = "\n\n".join(part for part in body if part)
    doc = ast.get_docstring(source, clean=True) or ""
    doc = doc.replace("async with", "with").replace("async for", "for")
    head = f'class {name}:\n    """{_indented(doc).strip()}\n    """\n\n'
    whole = head + _indent(text) + "\n"
    return _header(name, module) + _imports(whole, tree, module) + "\n\n" + whole


_ENTER = """
def __enter__(self) -> Self:
    try:
        self._portal.run(self._client.__aenter__())
    except BaseException:
        self._portal.close()
        raise
    return self
""".strip()
_SPECIAL = ("__init__", "__aenter__", "__aexit__", "__aiter__")


def _method(owner: str, node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    by_hand = OVERRIDES.get((owner, node.name))
    if by_hand is not None:
        return _filled(by_hand.strip(), node)
    decorators = {ast.unparse(one) for one in node.decorator_list}
    name = RENAMED.get(node.name, node.name)
    returns = ast.unparse(node.returns) if node.returns is not None else "None"
    returns = returns.strip("'\"")
    documentation = _documentation(node)
    if node.name == "__init__":
        made = f"{node.name}({_parameters(node)}) -> None"
        lines = [
            f'self._portal = Portal("ottla {owner.lower()}")',
            f"self._client = Asynchronous{owner}(**given(locals()))",
        ]
        if owner == "Producer":
            lines.append("self._hand_over = HandOver(self._portal, self._client.send_soon)")
        return f"def {made}:\n" + _indent("\n".join(lines))
    if "classmethod" in decorators:
        lines = ["client = cls.__new__(cls)", f'client._portal = Portal("ottla {owner.lower()}")']
        lines.append(f"client._client = Asynchronous{owner}.{name}({_arguments(node)})")
        if owner == "Producer":
            lines.append("client._hand_over = HandOver(client._portal, client._client.send_soon)")
        lines.append("return client")
        return f"@classmethod\ndef {name}({_parameters(node)}) -> Self:\n" + _indent(documentation + "\n".join(lines))
    if "property" in decorators:
        line = f"return self._portal.call(lambda: self._client.{name})"
        return f"@property\ndef {name}(self) -> {returns}:\n" + _indent(documentation + line)
    if name == "__enter__":
        return _ENTER
    if name == "__exit__":
        return _exit(owner, node)
    call = f"self._client.{node.name}({_arguments(node)})"
    if isinstance(node, ast.FunctionDef):
        arguments = _arguments(node)
        line = f"self._portal.call(self._client.{node.name}{', ' + arguments if arguments else ''})"
    elif returns.startswith("AsyncIterator"):
        returns = returns.replace("AsyncIterator", "Iterator", 1)
        line = f"self._portal.iterate({call})"
    elif name == "close":
        closing = f"try:\n    self._portal.run({call})\nfinally:\n    self._portal.close()"
        return f"def {name}({_parameters(node)}) -> None:\n" + _indent(documentation + closing)
    else:
        line = f"self._portal.run({call})"
    line = line if returns == "None" else f"return {line}"
    return f"def {name}({_parameters(node)}) -> {returns}:\n" + _indent(documentation + line)


def _exit(owner: str, node: ast.AsyncFunctionDef | ast.FunctionDef) -> str:
    lines = ["try:", f"    self._portal.run(self._client.__aexit__({_arguments(node)}))", "finally:"]
    if owner == "Producer":
        lines[1:1] = ["    if error is None or isinstance(error, Exception):", "        self._hand_over.wait_empty()"]
    lines.append("    self._portal.close()")
    return f"def __exit__({_parameters(node)}) -> None:\n" + _indent("\n".join(lines))


def _filled(template: str, node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    positional = [one.arg for one in node.args.args[1:]]
    keywords = ", ".join(f'"{one.arg}": {one.arg}' for one in node.args.kwonlyargs)
    return (
        template.replace("BLOCK_PARAMETERS", _parameters(node))
        .replace("BLOCK_ARGUMENTS", _arguments(node))
        .replace("BLOCK_POSITIONAL", "".join(f"{one}, " for one in positional).rstrip())
        .replace("BLOCK_KEYWORDS", keywords)
    )


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    for one in (*node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg):
        if one is not None and isinstance(one.annotation, ast.Constant) and isinstance(one.annotation.value, str):
            one.annotation = ast.parse(one.annotation.value, mode="eval").body
    return ast.unparse(node.args)


def _arguments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    parts = [one.arg for one in node.args.args[1:]]
    if node.args.vararg is not None:
        parts.append(f"*{node.args.vararg.arg}")
    parts += [f"{one.arg}={one.arg}" for one in node.args.kwonlyargs]
    if node.args.kwarg is not None:
        parts.append(f"**{node.args.kwarg.arg}")
    return ", ".join(parts)


def _documentation(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    text = ast.get_docstring(node, clean=True)
    if not text:
        return ""
    text = text.replace("``async with``", "``with``").replace("async with", "with")
    lines = text.split("\n")
    return f'"""{text}"""\n' if len(lines) == 1 else f'"""{text}\n"""\n'


def _header(name: str, module: str) -> str:
    return (
        f'"""The blocking {name}. Generated by tools/generate_sync_client.py from {module}.py: change that, '
        'not this file."""\n\nfrom __future__ import annotations\n\n'
    )


def _imports(text: str, source: ast.Module, module: str) -> str:
    """What the generated class needs: its own machinery, and the names in its signatures."""
    used = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
    places = _places(used, source, f"ottla.client.{module}")
    own = next(name for name, file in CLASSES.items() if file == module)
    places.setdefault(f"ottla.client.{module}", set()).add(f"{own} as Asynchronous{own}")
    for name, place in _MACHINERY.items():
        if name in used:
            places.setdefault(place, set()).add(name)
    at_run_time = {"Portal", "HandOver", "given", "contextmanager", f"{own} as Asynchronous{own}"} | _defaults(text)
    lines, typed = ["from typing import TYPE_CHECKING"], []
    for place in sorted(places):
        now = places[place] & at_run_time
        if now:
            lines.append(f"from {place} import {', '.join(sorted(now))}")
        if places[place] - now:
            typed.append(f"    from {place} import {', '.join(sorted(places[place] - now))}")
    return "\n".join(sorted(lines)) + "\n\nif TYPE_CHECKING:\n" + "\n".join(typed) + "\n"


_MACHINERY = {
    "Portal": "ottla.client.sync._portal",
    "HandOver": "ottla.client.sync._portal",
    "given": "ottla.client.sync._portal",
    "Future": "concurrent.futures",
    "Iterator": "collections.abc",
    "contextmanager": "contextlib",
    "Self": "typing",
}


def _places(used: set[str], source: ast.Module, module: str) -> dict[str, set[str]]:
    """Where the names in signatures come from: imported by the source, or defined in it."""
    places: dict[str, set[str]] = {}
    for node in ast.walk(source):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                if (alias.asname or alias.name) in used:
                    shown = alias.name if alias.asname is None else f"{alias.name} as {alias.asname}"
                    places.setdefault(node.module, set()).add(shown)
    defined = {one for node in source.body for one in _defined(node)} & used
    if defined - CLASSES.keys() - set(dir(builtins)):
        places[module] = defined - CLASSES.keys() - set(dir(builtins))
    return places


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [one.id for one in targets if isinstance(one, ast.Name)]


def _defaults(text: str) -> set[str]:
    """Names that are evaluated when the class is made: those in defaults."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            for default in (*node.args.defaults, *node.args.kw_defaults):
                if default is not None:
                    found |= {one.id for one in ast.walk(default) if isinstance(one, ast.Name)}
    return found


def _indent(text: str) -> str:
    return "\n".join(f"    {line}" if line.strip() else "" for line in text.split("\n"))


def _indented(text: str) -> str:
    return _indent(text)


def _formatted(text: str) -> str:
    ruff = Path(sys.executable).with_name("ruff")
    command = [str(ruff) if ruff.exists() else "ruff"]
    for step in (["check", "--fix", "--quiet", "--select", "I,RUF100"], ["format", "--quiet"]):
        arguments = [*command, *step, "--stdin-filename", str(TARGET / "_generated.py"), "-"]
        done = subprocess.run(arguments, input=text, capture_output=True, text=True, check=False, cwd=ROOT)
        if not done.stdout:
            raise RuntimeError(done.stderr + text)
        text = done.stdout
    return text


if __name__ == "__main__":
    sys.exit(main())
