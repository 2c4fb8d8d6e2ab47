"""The style laws that a linter cannot check, read from the syntax tree of every module in `src`.

Pure packages hold no coroutines, no clock, no files, no unseeded randomness, and never iterate over a bare set (its
order differs from run to run). Nobody starts an unsupervised task. Functions and files have a size, names say what they
are, every module says what it owns. `python tools/tidy.py` prints each breach as `path:line: text`.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "src"

PURE_PACKAGES = frozenset(
    {"groups", "transactions", "replication", "metadata", "quorum", "config", "records", "re2", "wire", "model"}
)
FORBIDDEN_IN_PURE = frozenset(
    {
        "asyncio",
        "io",
        "logging",
        "os",
        "pathlib",
        "select",
        "selectors",
        "shutil",
        "signal",
        "socket",
        "ssl",
        "subprocess",
        "tempfile",
        "threading",
        "time",
        "uvloop",
    }
)
GENERATED = ("wire/messages/", "client/sync/_admin.py", "client/sync/_consumer.py", "client/sync/_producer.py")
# The one place that may start tasks: it awaits them and reports their crashes.
SUPERVISOR = "runtime/supervisor.py"
TASK_STARTERS = frozenset({"create_task", "ensure_future"})
# These names say that nobody decided what the thing is.
EMPTY_NAMES = frozenset({"Manager", "Helper", "Helpers", "Util", "Utils", "Base", "Impl", "Mixin"})
_WORD = re.compile(r"[A-Z]+[a-z0-9]*")
FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 700


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """One place where a law is broken."""

    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


def check_tree(source: Path) -> list[Breach]:
    """All breaches below a source directory that holds the package `ottla`."""
    package = source / "ottla"
    breaches: list[Breach] = []
    for path in sorted(package.rglob("*.py")):
        breaches += check_module(path.relative_to(package).as_posix(), path.read_text(encoding="utf-8"))
    return breaches


def check_module(path: str, text: str) -> list[Breach]:
    """The breaches of one module; `path` is relative to the package `ottla`."""
    if path.startswith(GENERATED) and not path.endswith("__init__.py"):
        return []  # the generator's own check holds them to what it writes
    tree = ast.parse(text)
    found = [*_documentation(tree), *_names(tree), *_sizes(tree, text)]
    if path != SUPERVISOR:
        found += _tasks(tree)
    if path.partition("/")[0] in PURE_PACKAGES:
        found += [*_coroutines(tree), *_forbidden_imports(tree), *_randomness(tree), *_set_iteration(tree)]
    return [Breach(path=path, line=line, text=message) for line, message in sorted(found)]


Found = Iterator[tuple[int, str]]


def _documentation(tree: ast.Module) -> Found:
    if tree.body and ast.get_docstring(tree) is None:
        yield 1, "the module has no docstring"


def _names(tree: ast.Module) -> Found:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and not EMPTY_NAMES.isdisjoint(_WORD.findall(node.name)[-1:]):
            yield node.lineno, f"class {node.name}: the name does not say what it is"


def _sizes(tree: ast.Module, text: str) -> Found:
    lines = text.count("\n")
    if lines > FILE_LINES_MAX:
        yield FILE_LINES_MAX, f"the file has {lines} lines, {FILE_LINES_MAX} are allowed"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                yield node.lineno, f"function {node.name} has {length} lines, {FUNCTION_LINES_MAX} are allowed"


def _tasks(tree: ast.Module) -> Found:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _last_name(node.func) in TASK_STARTERS and not _in_task_group(node.func):
            yield node.lineno, "a task without a supervisor: use runtime.supervisor or a TaskGroup"


def _in_task_group(function: ast.expr) -> bool:
    """`group.create_task` on something called a group is a TaskGroup's; the loop's and asyncio's own are bare."""
    owner = _last_name(function.value) if isinstance(function, ast.Attribute) else ""
    return owner.lstrip("_").split("_")[-1] == "group"


def _coroutines(tree: ast.Module) -> Found:
    for node in ast.walk(tree):
        match node:
            case ast.AsyncFunctionDef() | ast.AsyncFor() | ast.Await():
                yield node.lineno, "asynchronous code in a pure package"


def _forbidden_imports(tree: ast.Module) -> Found:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        else:
            continue
        for name in names:
            if name.partition(".")[0] in FORBIDDEN_IN_PURE:
                yield node.lineno, f"import of {name} in a pure package"


def _randomness(tree: ast.Module) -> Found:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = _last_name(node.func)
            if name == "SystemRandom" or (name == "Random" and not node.args and not node.keywords):
                yield node.lineno, "unseeded randomness in a pure package"
            elif isinstance(node.func, ast.Attribute) and _last_name(node.func.value) == "random" and name != "Random":
                yield node.lineno, "the global random generator in a pure package"
            elif name in {"uuid1", "uuid4", "urandom", "token_bytes", "token_hex"}:
                yield node.lineno, f"{name} in a pure package"


def _set_iteration(tree: ast.Module) -> Found:
    """Loops over what is plainly a set: a literal, a call of `set`, or a name that is annotated or assigned as one."""
    for scope in _scopes(tree):
        sets = _set_names(scope)
        for node in _own_nodes(scope):
            for iterated in _iterated(node):
                if _is_set(iterated, sets):
                    yield iterated.lineno, "iteration over a bare set in a pure package: its order differs between runs"


_ORDER_BLIND = frozenset({"all", "any", "frozenset", "len", "max", "min", "set", "sorted", "sum"})


def _iterated(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, ast.For):
        yield node.iter
    elif isinstance(node, ast.ListComp | ast.DictComp):
        yield from (generator.iter for generator in node.generators)
    elif isinstance(node, ast.Call) and _last_name(node.func) in {"list", "tuple", "iter", "enumerate"} and node.args:
        yield node.args[0]
    elif isinstance(node, ast.Call) and _last_name(node.func) not in _ORDER_BLIND:
        for argument in node.args:
            if isinstance(argument, ast.GeneratorExp):
                yield from (generator.iter for generator in argument.generators)


def _scopes(tree: ast.Module) -> Iterator[ast.Module | ast.FunctionDef]:
    yield tree
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def _own_nodes(scope: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(scope):
        yield child
        if not isinstance(child, ast.FunctionDef):
            yield from _own_nodes(child)


def _set_names(scope: ast.Module | ast.FunctionDef) -> frozenset[str]:
    names: set[str] = set()
    if isinstance(scope, ast.FunctionDef):
        arguments = [*scope.args.posonlyargs, *scope.args.args, *scope.args.kwonlyargs]
        names |= {argument.arg for argument in arguments if _is_set_annotation(argument.annotation)}
    for node in _own_nodes(scope):
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and _is_set_annotation(node.annotation)
        ):
            names.add(node.target.id)
        elif isinstance(node, ast.Assign) and _is_set(node.value, frozenset()):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return frozenset(names)


def _is_set_annotation(annotation: ast.expr | None) -> bool:
    return annotation is not None and ast.unparse(annotation).partition("[")[0] in {"set", "frozenset", "AbstractSet"}


def _is_set(node: ast.expr, names: frozenset[str]) -> bool:
    if isinstance(node, ast.Set | ast.SetComp):
        return True
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr | ast.BitAnd | ast.Sub | ast.BitXor):
        return _is_set(node.left, names) or _is_set(node.right, names)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id in {"set", "frozenset"}
    return isinstance(node, ast.Name) and node.id in names


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def main() -> int:
    """Print the breaches; exit 1 when there are any."""
    breaches = check_tree(SOURCE)
    for breach in breaches:
        print(f"src/ottla/{breach}")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
