"""A run that is stopped, killed, finished or extended: nothing of it is lost or changed."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from spd.config import ModelConfig
from spd.data.rooms import write_rooms
from spd.train_config import DataConfig, OptimizerConfig, TrainConfig
from spd.training.run import train
from spd.training.saving import RESUME_FILE, SaveState
from spd.training.stopping import Stopped


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine rooms to learn from, one to validate on: four steps of two make an epoch."""
    return write_rooms(tmp_path_factory.mktemp("data") / "rooms", num=10, seed=3, size=(64, 96), workers=1).parent


def small_run(rooms: Path, output: Path, **changes: object) -> TrainConfig:
    config = TrainConfig(
        # Small and quick: what is kept of a run does not depend on the network.
        model=ModelConfig.atto(architecture="bilinear", dropout=0.0, train_size=(64, 96)),
        data=DataConfig(root=(rooms,), batch_size=2, num_queries=32, num_workers=0),
        optimizer=OptimizerConfig(learning_rate=4e-4, warmup_steps=2),
        output=output,
        accelerator="cpu",
        max_steps=6,
        checkpoint_every=100,
        log_every=2,
    )
    return replace(config, **changes)  # type: ignore[arg-type]


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def provenance(folder: Path) -> dict[str, object]:
    return json.loads((folder / "config.json").read_text())["provenance"]


def weights(folder: Path) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in load_file(folder / "model.safetensors").items()}


def assert_same_weights(folder: Path, other: Path) -> None:
    found, expected = weights(folder), weights(other)
    assert found.keys() == expected.keys()
    for name in found:
        np.testing.assert_array_equal(found[name], expected[name], name)


@pytest.mark.parametrize("resume", [True, "auto"])
def test_a_finished_run_that_is_resumed_changes_no_byte(
    rooms: Path, tmp_path: Path, resume: bool | str, caplog: pytest.LogCaptureFixture
) -> None:
    config = small_run(rooms, tmp_path / "run", ema_decay=0.8, max_steps=4)
    train(config)
    before = digests(tmp_path / "run")
    # The answer is the average, not the last step's weights.
    state = torch.load(tmp_path / "run" / RESUME_FILE, weights_only=True)
    averaged, last = state["state_dict"], state["current_model_state"]
    name = next(key for key in averaged if key.endswith("weight"))
    assert not torch.equal(averaged[name], last[name])
    np.testing.assert_array_equal(weights(tmp_path / "run")[name.removeprefix("model.")], averaged[name].numpy())
    train(replace(config, resume=resume))
    assert digests(tmp_path / "run") == before
    assert "is finished, after 4 steps" in caplog.text


@pytest.mark.parametrize("steps", [4, 6])
def test_a_kill_between_the_last_save_and_the_end_loses_nothing(
    rooms: Path, tmp_path: Path, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 4 steps the run ends with an epoch, with 6 in the midst of one."""
    config = small_run(rooms, tmp_path / "whole", ema_decay=0.8, max_steps=steps)
    train(config)
    broken = replace(config, output=tmp_path / "broken")
    save = SaveState._save

    def save_and_die(self: SaveState, trainer: object) -> None:
        save(self, trainer)  # type: ignore[arg-type]
        raise SystemExit("killed")

    with monkeypatch.context() as patch:
        patch.setattr(SaveState, "_save", save_and_die)
        with pytest.raises(SystemExit, match="killed"):
            train(broken)
    assert not (tmp_path / "broken" / "curves.png").exists()
    train(replace(broken, resume=True))
    assert_same_weights(tmp_path / "broken", tmp_path / "whole")
    assert provenance(tmp_path / "broken")["steps"] == steps
    # The whole run's last figures in mid-epoch are those of step 4; here the last weights are validated.
    figures = provenance(tmp_path / "broken")["validation"]
    assert isinstance(figures, dict)
    assert {"abs_rel", "rmse", "delta1", "silog", "abs_rel_aligned"} <= set(figures)
    if steps == 4:
        assert figures == provenance(tmp_path / "whole")["validation"]
    assert (tmp_path / "broken" / "curves.png").is_file()


@pytest.mark.parametrize("where", ["step", "end of epoch", "validation"])
def test_a_stopped_run_continues_to_the_same_weights(
    rooms: Path, tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In epochs, whose count Lightning restarts too.
    config = small_run(rooms, tmp_path / "whole", ema_decay=0.8, max_steps=None, epochs=2)
    train(config)
    assert provenance(tmp_path / "whole")["steps"] == 8
    broken = replace(config, output=tmp_path / "broken")
    stop_at = 3 if where == "step" else 4
    hook = "on_validation_batch_end" if where == "validation" else "on_train_batch_end"
    original = getattr(SaveState, hook)

    def with_signal(self: SaveState, trainer, *arguments: object) -> None:
        if trainer.global_step == stop_at:
            self.signals.received = 15
        original(self, trainer, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(SaveState, hook, with_signal)
        with pytest.raises(Stopped, match="SIGTERM") as stopped:
            train(broken)
    assert stopped.value.status == 143
    assert f"after step {stop_at} of 8, saved in {broken.output / RESUME_FILE}; continue with --resume" in str(
        stopped.value
    )
    train(replace(broken, resume="auto"))
    assert_same_weights(tmp_path / "broken", tmp_path / "whole")
    assert provenance(tmp_path / "broken") == provenance(tmp_path / "whole")


def test_a_finished_run_is_extended_on_purpose(rooms: Path, tmp_path: Path) -> None:
    config = small_run(rooms, tmp_path / "run", max_steps=4)
    train(config)
    first = digests(tmp_path / "run")
    with pytest.raises(ValueError, match=r"differ: max_steps; a run is made longer with --resume --extend"):
        train(replace(config, resume=True, max_steps=7))
    with pytest.raises(ValueError, match="at step 4 already, beyond the 3 that are asked for"):
        train(replace(config, resume=True, extend=True, max_steps=3))
    with pytest.raises(ValueError, match="fields differ: seed"):
        train(replace(config, resume=True, extend=True, max_steps=7, seed=1))
    assert digests(tmp_path / "run") == first
    train(replace(config, resume=True, extend=True, max_steps=7))
    assert provenance(tmp_path / "run")["steps"] == 7
    assert provenance(tmp_path / "run")["extended_at"] == [4]
    assert json.loads((tmp_path / "run" / "train.json").read_text())["max_steps"] == 7
    extended = digests(tmp_path / "run")
    assert extended["model.safetensors"] != first["model.safetensors"]
    # It is the run of that length now.
    train(replace(config, resume=True, max_steps=7))
    assert digests(tmp_path / "run") == extended


def test_a_damaged_state_is_one_line(rooms: Path, tmp_path: Path) -> None:
    config = small_run(rooms, tmp_path / "run", max_steps=1, validate_every=0)
    train(config)
    path = tmp_path / "run" / RESUME_FILE
    whole = path.read_bytes()
    middle = len(whole) // 2
    damaged = {
        "cut": whole[:middle],
        "empty": b"",
        "changed": whole[:middle] + bytes(byte ^ 1 for byte in whole[middle : middle + 8]) + whole[middle + 8 :],
        "text": b"not a state",
    }
    for name, contents in damaged.items():
        path.write_bytes(contents)
        with pytest.raises(ValueError, match=r"last\.ckpt is damaged or no state of a run") as refused:
            train(replace(config, resume=True, max_steps=1))
        assert "\n" not in str(refused.value), name
    torch.save({"global_step": 1}, path)
    with pytest.raises(ValueError, match="it has no epoch"):
        train(replace(config, resume=True))


def test_a_folder_with_weights_alone_leads_to_init(rooms: Path, tmp_path: Path) -> None:
    config = small_run(rooms, tmp_path / "run", max_steps=1, validate_every=0)
    train(config)
    (tmp_path / "run" / RESUME_FILE).unlink()
    for resume in (False, True, "auto"):
        with pytest.raises(ValueError, match=f"--init {tmp_path / 'run'}"):
            train(replace(config, resume=resume))


def test_data_without_depth_are_refused_before_anything_is_written(rooms: Path, tmp_path: Path) -> None:
    data = shutil.copytree(rooms, tmp_path / "data")
    for depth in (data / "depth").iterdir():
        Image.fromarray(np.zeros((64, 96), np.uint16)).save(depth)
    with pytest.raises(ValueError, match=r"none of the 9 frames has a valid depth: .*00000\.png"):
        train(small_run(data, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_somebody_elses_folder_is_refused(rooms: Path, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("My project")
    (tmp_path / "config.json").write_text("{}")
    before = digests(tmp_path)
    for resume in (False, "auto", True):
        with pytest.raises(ValueError, match=r"--output must be a new or empty folder or one that holds a run, got .*"):
            train(small_run(rooms, tmp_path, resume=resume))
    assert digests(tmp_path) == before
