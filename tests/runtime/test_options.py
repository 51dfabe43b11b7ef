"""Options of public functions that are none: refused, not taken for others. Without the types that tests check."""

from __future__ import annotations

import subprocess
import sys

CASES = """
from pathlib import Path
import torch
import spd
from spd.data.nyu.importing import open_nyu
from spd.runtime.export import export
from spd.runtime.loading import load_exported

model = spd.SPD(spd.ModelConfig.atto(train_size=(64, 96)))
here = Path(".")
for call in (
    lambda: spd.load(precision="float16"),
    lambda: spd.load(precision="bf16"),
    lambda: spd.load(precision=torch.bfloat16),
    lambda: spd.load(mode="complie"),
    lambda: spd.load(interaction="single"),
    lambda: spd.load(device="tpu7"),
    lambda: load_exported(here, "tensorrt"),
    lambda: load_exported(here, "onnx", precision="bf16"),
    lambda: load_exported(here, "onnx", threads=0),
    lambda: export(model, here / "out", "tensorrt"),
    lambda: spd.save(model, here / "out", dtype="float16"),
    lambda: spd.save(model, here / "out", dtype=torch.int8),
    lambda: open_nyu(here, "labelled"),
    lambda: open_nyu(here, "labeled", depth="full"),
):
    try:
        call()
    except ValueError as error:
        print(error)
    else:
        print("taken")
"""
EXPECTED = [
    "precision must be one of float32, bfloat16, got 'float16'",
    "precision must be one of float32, bfloat16, got 'bf16'",
    "precision must be one of float32, bfloat16, got torch.bfloat16",
    "mode must be one of eager, compile, cudagraphs, got 'complie'",
    "interaction must be one of joint, anchored, got 'single'",
    "device must be one that this machine has, such as cpu, got 'tpu7'",
    "engine must be one of onnx, openvino, got 'tensorrt'",
    "precision must be one of float32, bfloat16, got 'bf16'",
    "threads must be a whole number of at least 1, got 0",
    "engine must be one of onnx, openvino, got 'tensorrt'",
    "dtype must be a floating type of torch such as torch.float16, got 'float16'",
    "dtype must be a floating type of torch such as torch.float16, got torch.int8",
    "layout must be one of labeled, bts, hf, densedepth, got 'labelled'",
    "depth must be one of filled, raw, got 'full'",
]


def test_options_that_are_none_are_refused(tmp_path: object) -> None:
    result = subprocess.run(
        [sys.executable, "-c", CASES], capture_output=True, text=True, cwd=str(tmp_path), check=True
    )
    assert result.stdout.splitlines() == EXPECTED
