from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.fuzz.mutate import mutated_bytes, mutated_csv_bytes, mutated_json_bytes

_ROOT = Path(__file__).parents[2]


def test_mutated_inputs_are_answered_or_refused_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz.run", "--inputs", "150", "--kept", str(tmp_path / "kept")]
    result = subprocess.run(command, capture_output=True, text=True, cwd=_ROOT, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "150 inputs of 15 kinds, seed 0" in result.stdout
    taken, refused = (int(result.stdout.split(f" {word}")[0].split()[-1]) for word in ("taken", "refused"))
    assert taken + refused == 150
    assert min(taken, refused) > 20


@pytest.mark.parametrize("mutate", [mutated_bytes, mutated_csv_bytes, mutated_json_bytes])
def test_mutations_differ_and_are_told_by_their_seed(mutate) -> None:
    whole = b'{"u": [1, 2], "v": {"w": 3}}'
    made = [mutate(whole, np.random.default_rng(seed)) for seed in range(50)]
    assert made == [mutate(whole, np.random.default_rng(seed)) for seed in range(50)]
    assert len(set(made)) > 30
    assert made.count(whole) < 5
