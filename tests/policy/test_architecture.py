"""Imports run one way: the contracts in pyproject.toml."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter on the package under ``folder/src`` with the contracts of ``folder/pyproject.toml``."""
    code = (
        f"import sys; sys.path.insert(0, {str(folder / 'src')!r})\n"
        "from importlinter.cli import lint_imports\n"
        "sys.exit(lint_imports(no_cache=True))"
    )
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)


def test_imports_run_one_way() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


def test_contract_sees_a_model_that_imports_data(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src", tmp_path / "src")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "src/spd/model/broken.py").write_text("def f():\n    import spd.data\n")
    result = lint_imports(tmp_path)
    assert result.returncode == 1
    assert "spd.model.broken -> spd.data" in result.stdout
