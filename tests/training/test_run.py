"""Whole runs on small procedural rooms: resuming after a kill, two processes, a loss that explodes, refusals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from spd.baselines import bilinear_mlp
from spd.checkpoint import load_model
from spd.data.rooms import write_rooms
from spd.training.curves import read_curves

SMALL_RUN = (
    "--model.train-size 64 96 --data.batch-size 2 --data.num-queries 32 --data.num-workers 0 --accelerator cpu "
    "--max-steps 9 --checkpoint-every 5 --log-every 2 --optimizer.warmup-steps 2"
).split()

# Kills its own process, without a chance to tidy up, as step 7 begins: in mid-epoch, two steps after the last write.
KILL_AT_STEP_7 = """
import os, signal, sys
import spd.training.module as module
seed_step = module.SPDModule.on_train_batch_start
def seed_or_die(self, batch, batch_idx):
    if self.global_step == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    seed_step(self, batch, batch_idx)
module.SPDModule.on_train_batch_start = seed_or_die
from spd.cli.main import main
sys.exit(main())
"""


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rooms(tmp_path_factory.mktemp("data") / "rooms", num=10, seed=3, size=(64, 96), workers=1).parent


def spd(*arguments: object, code: Sequence[str] = ("-m", "spd.cli.main")) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *code, *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def train(rooms: Path, output: Path, *more: str, code: Sequence[str] = ("-m", "spd.cli.main")):
    arguments = ("train", "rooms-atto", "--data.root", rooms, "--output", output, *SMALL_RUN, *more)
    return spd(*arguments, code=code)


@pytest.mark.parametrize("options", [(), ("--ema-decay", "0.8")])
def test_resume_after_a_kill_gives_the_same_weights(rooms: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    result = train(rooms, whole, *options)
    assert result.returncode == 0, result.stderr

    killed = train(rooms, broken, *options, code=("-c", KILL_AT_STEP_7))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    state = torch.load(broken / "last.ckpt", weights_only=True)
    assert state["global_step"] == 5

    refused = train(rooms, broken, *options)
    assert refused.returncode == 2
    assert "--resume" in refused.stderr
    if not options:
        forget_fields_of_later_versions(broken / "train.json")
    changed = train(rooms, broken, *options, "--resume", "--optimizer.learning-rate", "0.1")
    assert changed.returncode == 2
    assert "these fields differ: optimizer.learning_rate" in changed.stderr

    resumed = train(rooms, broken, *options, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    expected, found = load_file(whole / "model.safetensors"), load_file(broken / "model.safetensors")
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)

    # The auxiliary heads trained, and are not in what answers.
    assert not any("auxiliary" in name for name in found)
    assert any("auxiliary" in name for name in state["state_dict"])
    config = json.loads((whole / "train.json").read_text())
    assert config["model"]["train_size"] == [64, 96]
    assert config["optimizer"]["learning_rate"] == pytest.approx(4e-4)
    assert (whole / "curves.png").stat().st_size > 10_000


def forget_fields_of_later_versions(stored: Path) -> None:
    """Make the configuration of a run what the first version wrote."""
    config = json.loads(stored.read_text())
    del config["model"]["architecture"], config["ema_decay"]
    del config["data"]["train_fraction"], config["loss"]["relative_weight"]
    stored.write_text(json.dumps(config))


@pytest.fixture(scope="module")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images whose depth is told by their colour alone, which is all that the baseline can learn."""
    root = tmp_path_factory.mktemp("stripes")
    generator = np.random.default_rng(0)
    lines = ["image,depth,split,camera"]
    for number in range(6):
        grey = np.repeat(generator.integers(0, 256, (4, 6), np.uint8), 16, axis=0).repeat(16, axis=1)
        Image.fromarray(np.stack((grey, 255 - grey, grey), axis=-1)).save(root / f"{number}.png")
        np.save(root / f"{number}.npy", (1 + 6 * (grey / np.float32(255))).astype(np.float32))
        lines.append(f"{number}.png,{number}.npy,{'val' if number == 5 else 'train'},canonical")
    (root / "manifest.csv").write_text("\n".join(lines))
    return root


def test_the_baseline_trains_and_resumes_as_spd_does(stripes: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = (
        "--model bilinear --max-steps 60 --optimizer.learning-rate 4e-3 --data.color-jitter 0 0 0 0 --data.zoom 1 1 "
        "--data.edge-fraction 0"  # Beside an edge colour does not tell the depth.
    ).split()
    killed = train(stripes, run, *options, code=("-c", KILL_AT_STEP_7))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    refused = train(stripes, run, *options[2:], "--resume")
    assert "these fields differ: model.architecture" in refused.stderr
    resumed = train(stripes, run, *options, "--resume")
    assert resumed.returncode == 0, resumed.stderr

    curves = read_curves(run / "logs")
    loss = curves["train/silog"].values
    assert max(loss[-4:]) < 0.5 * loss[0]
    assert not [name for name in curves if name.startswith(("train/auxiliary", "canvas", "gate", "offset"))]
    # Also of the first steps after the restart, which began in mid-epoch.
    assert min(curves["images_per_s"].values) > 0.1
    assert (run / "curves.png").stat().st_size > 10_000
    points = [(u, v) for v in range(8, 64, 16) for u in range(8, 96, 16)]
    predicted_m = bilinear_mlp.load(run, device="cpu")(stripes / "5.png", points)
    true_m = np.load(stripes / "5.npy")[8::16, 8::16].ravel()
    assert np.corrcoef(np.log(predicted_m), np.log(true_m))[0, 1] > 0.9


def test_a_folder_with_weights_is_not_trained_over(rooms: Path, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights of another run")
    result = train(rooms, tmp_path)
    assert result.returncode == 2
    assert "already holds a run" in result.stderr
    assert (tmp_path / "model.safetensors").read_bytes() == b"weights of another run"
    assert not (tmp_path / "train.json").exists()


def test_two_processes_train_and_save_one_checkpoint(rooms: Path, tmp_path: Path) -> None:
    result = train(rooms, tmp_path / "run", "--devices", "2", "--max-steps", "3", "--checkpoint-every", "3")
    assert result.returncode == 0, result.stderr
    assert len(list((tmp_path / "run").glob("**/*.safetensors"))) == 1
    model = load_model(tmp_path / "run")
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["global_step"] == 3


def test_mixed_precision_trains(rooms: Path, tmp_path: Path) -> None:
    result = train(rooms, tmp_path / "out", "--precision", "bfloat16", "--max-steps", "2", "--validate-every", "0")
    assert result.returncode == 0, result.stderr
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert all(weight.isfinite().all() for weight in weights.values())


def test_exploding_loss_names_the_batch(rooms: Path, tmp_path: Path) -> None:
    result = train(rooms, tmp_path / "run", "--optimizer.learning-rate", "1e30", "--optimizer.gradient-clip", "1e30")
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert "not finite at step" in last
    assert ".png" in last or ".jpg" in last


def test_refusals_are_one_line(rooms: Path, tmp_path: Path) -> None:
    cases = {
        "manifest": ("--data.root", str(tmp_path)),
        "validation": ("--data.val-split", "validation"),
        "train_size": ("--model.train-size", "65", "96"),
        "nothing to resume": ("--resume",),
    }
    for expected, more in cases.items():
        result = train(rooms, tmp_path / "run", *more)
        assert result.returncode == 2, result.stderr
        assert expected in result.stderr
        assert "Traceback" not in result.stderr
        assert not (tmp_path / "run").exists()


def test_a_run_starts_from_the_weights_of_a_checkpoint(rooms: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert train(rooms, first, "--max-steps", "1", "--data.terms", "apache-2.0").returncode == 0
    # A rate of almost nothing: what is saved is what it started from.
    tuned = train(
        rooms, second, "--init", str(first), "--max-steps", "1", "--optimizer.learning-rate", "1e-12", "--seed", "7",
        "--data.terms", "for tests",
    )  # fmt: skip
    assert tuned.returncode == 0, tuned.stderr
    before, after = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    for name, weights in before.items():
        torch.testing.assert_close(after[name], weights, atol=1e-6, rtol=0)
    provenance = json.loads((second / "config.json").read_text())["provenance"]
    assert provenance["data_terms"] == "for tests; apache-2.0"
    assert provenance["started_from"]["steps"] == 1
    assert provenance["started_from"]["checksum"] == json.loads((first / "config.json").read_text())["checksum"]

    third = tmp_path / "whole"
    whole = train(
        rooms, third, "--init", str(second), "--max-steps", "4", "--data.train-splits", "train", "val",
        "--data.terms", "apache-2.0",
    )  # fmt: skip
    assert whole.returncode == 0, whole.stderr
    provenance = json.loads((third / "config.json").read_text())["provenance"]
    assert provenance["data_terms"] == "apache-2.0; for tests"
    # It learns from the images that it is validated on.
    assert provenance["splits"] == ["train", "val"]
    assert provenance["validation"] == {}
    assert provenance["loss"]["silog_lambda"] == 0.15

    other = train(rooms, tmp_path / "third", "--init", str(first), "--model.variant.without", "canvas")
    assert other.returncode == 2
    assert "does not fit a network of another configuration than its own: it has unexpected" in other.stderr
    # Recipes of pretrained encoders need no second flag: nothing is loaded from the hub, which cannot be reached here.
    both = train(rooms, tmp_path / "fourth", "--init", str(first), "--model.pretrained", "True")
    assert both.returncode == 0, both.stderr
    assert "the encoder starts from" not in both.stderr
    # The encoder is that of the checkpoint, which began with random weights.
    assert json.loads((tmp_path / "fourth" / "config.json").read_text())["provenance"]["pretrained_encoder"] is False
