"""Compiles the record scanner where a C compiler is at hand; without one the wheel is pure Python and does the same.

`src/ottla/records/scan.py` is Python; `scan.pxd` beside it has the types that let Cython make C of it. `OTTLA_PURE=1`
leaves it at that. `python hatch_build.py` compiles in place, for a checkout.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # compiling in place needs no build backend
    BuildHookInterface = object

MODULE = "ottla.records.scan"
SOURCE = "src/ottla/records/scan.py"
DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    # Its annotations are for Python; the types for C are in the .pxd.
    "annotation_typing": False,
}


class CannotCompile(Exception):
    """Why there is no compiled scanner."""


class ScannerHook(BuildHookInterface):
    """Adds the extension to the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel" or os.environ.get("OTTLA_PURE"):
            return
        root = Path(self.root)
        directory = root / Path(SOURCE).parent if version == "editable" else Path(tempfile.mkdtemp())
        try:
            extension = compile_scanner(root, directory)
        except CannotCompile as reason:
            self.app.display_warning(f"ottla is built as pure Python: {reason}")
            return
        if version != "editable":
            build_data["force_include"][str(extension)] = f"ottla/records/{extension.name}"
            build_data["pure_python"] = False
            build_data["infer_tag"] = True


def compile_scanner(root: Path, directory: Path) -> Path:
    """Compile the scanner of the checkout at ``root`` into ``directory``. Raises ``CannotCompile``."""
    try:
        from Cython.Compiler.Main import compile_single
        from Cython.Compiler.Options import CompilationOptions, default_options
    except ImportError as error:
        raise CannotCompile(f"no Cython ({error})") from error
    extension = directory / f"scan{sysconfig.get_config_var('EXT_SUFFIX')}"
    with tempfile.TemporaryDirectory() as scratch:
        c_file = Path(scratch) / "scan.c"
        options = CompilationOptions(default_options, output_file=str(c_file), compiler_directives=DIRECTIVES)
        result = compile_single(str(root / SOURCE), options, full_module_name=MODULE)
        if result.num_errors:
            raise CannotCompile("Cython refuses scan.py")
        built = Path(scratch) / extension.name
        command = [
            *shlex.split(sysconfig.get_config_var("LDSHARED") or "cc -shared"),
            *("-O2", "-fPIC", "-I", sysconfig.get_path("include"), str(c_file), "-o", str(built)),
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CannotCompile(f"no C compiler ({error})") from error
        if done.returncode != 0:
            raise CannotCompile(f"the C compiler failed: {done.stderr[-300:]}")
        # Replaced, not written into: a process may have the old one mapped.
        staged = directory / f".{extension.name}"
        staged.write_bytes(built.read_bytes())
        staged.replace(extension)
    return extension


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    print(compile_scanner(here, here / Path(SOURCE).parent))
