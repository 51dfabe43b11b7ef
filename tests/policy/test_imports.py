"""Import has no side effects, and the command line answers without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import spd
from spd.cli.main import COMMANDS

HEAVY = ("torch", "lightning", "matplotlib", "PIL", "timm", "numpy")
CLI_MODULES = sorted(f"spd.cli.{path.stem}" for path in Path(spd.__file__).parent.glob("cli/[!_]*.py"))


def run_python(code: str) -> str:
    """Standard output of a fresh interpreter, which must succeed and write nothing to standard error."""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def test_light_modules_import_without_heavy_ones() -> None:
    modules = ["spd", "spd.config", "spd.training.recipes", *CLI_MODULES]
    code = (
        "import importlib, sys\n"
        f"for module in {modules!r}:\n"
        "    importlib.import_module(module)\n"
        f"    assert not (heavy := sys.modules.keys() & {set(HEAVY)!r}), (module, heavy)\n"
    )
    assert run_python(code) == ""


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_imports_nothing_heavy(command: str) -> None:
    code = (
        "import sys\n"
        "from spd.cli.main import main\n"
        f"assert main({command.split()!r} + ['--help']) == 0\n"
        f"assert not (heavy := sys.modules.keys() & {set(HEAVY)!r}), heavy\n"
    )
    assert f"usage: spd {command}".strip() in run_python(code)


def test_import_has_no_side_effects(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, random, warnings\n"
        f"os.chdir({str(tmp_path)!r})\n"
        "before = dict(os.environ), random.getstate(), list(warnings.filters)\n"
        "import spd\n"
        "assert before == (dict(os.environ), random.getstate(), list(warnings.filters))\n"
        "assert not list(pathlib.Path('.').iterdir())\n"
    )
    assert run_python(code) == ""


def test_public_names_exist() -> None:
    assert set(dir(spd)) >= set(spd.__all__)
    for name in spd.__all__:
        assert getattr(spd, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'depth'"):
        spd.depth  # noqa: B018


def test_public_names_are_those_that_type_checkers_see() -> None:
    """What ``__getattr__`` finds is what the TYPE_CHECKING imports promise."""
    import ast

    tree = ast.parse(Path(spd.__file__).read_text(encoding="utf-8"))
    promised = {
        alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert promised == spd._MODULE_OF
    assert {*promised, "__version__"} == set(spd.__all__)
