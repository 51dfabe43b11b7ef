from __future__ import annotations

import subprocess
import sys

import pytest

from spd.forking import refuse_forked

FORKED_ANSWER = """
import os, sys, threading, warnings
import numpy as np
import torch
import spd

torch.set_num_threads(2)
image = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
points = [(u, v) for u in range(0, 128, 3) for v in range(0, 96, 3)]
predictor = spd.load(device="cpu")
expected = predictor(image, points)
child = os.fork()
if child == 0:
    warnings.simplefilter("always")
    found = predictor(image, points)
    os._exit(0 if np.allclose(found, expected, rtol=1e-4) else 3)
timer = threading.Timer(120, lambda: os.kill(child, 9))
timer.start()
status = os.waitpid(child, 0)[1]
timer.cancel()
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_a_forked_process_answers_as_the_one_before_it() -> None:
    """Without care it waits for ever for threads that are not in it, and is killed."""
    result = subprocess.run([sys.executable, "-c", FORKED_ANSWER], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("get_context('spawn')") == 1


def test_an_engine_of_another_process_is_refused() -> None:
    with pytest.raises(ValueError, match="load it after, or start processes"):
        refuse_forked(1, "OpenVINO")
