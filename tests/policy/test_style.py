"""House rules that no linter holds: size, docstrings, printing."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import spd

PACKAGE = Path(spd.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
MAX_FILE_LINES = 330
MAX_FUNCTION_LINES = 60
HOOKS = {
    "forward",
    "setup",
    "training_step",
    "validation_step",
    "configure_optimizers",
    "train_dataloader",
    "val_dataloader",
    "state_dict",
    "load_state_dict",
    "get_metrics",
}

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def definitions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, Definition]]:
    """Functions, classes and methods with their dotted names; not what is local to a function."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Definition):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from definitions(node, f"{prefix}{node.name}.")


def is_public(name: str) -> bool:
    return not any(part.startswith("_") for part in name.split("."))


def is_hook(name: str) -> bool:
    """Whether a framework calls the method and documents it: torch's ``forward``, Lightning's hooks."""
    return name in HOOKS or name.startswith("on_")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_house_rules(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    broken = []
    if (lines := len(text.splitlines())) > MAX_FILE_LINES:
        broken.append(f"{lines} lines, at most {MAX_FILE_LINES}")
    if text.strip() and not ast.get_docstring(tree):
        broken.append("no module docstring")
    for name, node in definitions(tree):
        if is_public(name) and not is_hook(node.name) and not ast.get_docstring(node):
            broken.append(f"{name} has no docstring")
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        if not isinstance(node, ast.ClassDef) and length > MAX_FUNCTION_LINES:
            broken.append(f"{name} has {length} lines, at most {MAX_FUNCTION_LINES}")
    broken += [f"says {word}" for word in re.findall(r"\b(?:TODO|FIXME|XXX)\b", text)]
    prints = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    if prints and path.parent.name != "cli":
        broken.append(f"prints at line {prints[0]}")
    assert not broken
