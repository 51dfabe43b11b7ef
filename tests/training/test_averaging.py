"""The moving average of the weights, against one that is worked out from the weights of every step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from spd.config import ModelConfig
from spd.data.rooms import write_rooms
from spd.model.spd import SPD
from spd.train_config import DataConfig, OptimizerConfig, TrainConfig
from spd.training import answers, run
from spd.training.module import SPDModule

WATCHED = "decoder.seed.project.weight"
DECAY = 0.6


def _config(root: Path, output: Path, ema_decay: float | None) -> TrainConfig:
    return TrainConfig(
        model=ModelConfig.atto(train_size=(64, 96), dropout=0.0),
        data=DataConfig(root=(root,), batch_size=2, num_queries=16, num_workers=0),
        optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=1),
        output=output,
        max_steps=5,
        ema_decay=ema_decay,
        checkpoint_every=5,
        accelerator="cpu",
    )


def test_the_average_is_what_is_validated_and_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_rooms(tmp_path / "rooms", num=6, seed=0, size=(64, 96), workers=1).parent
    of_steps: list[Tensor] = []
    validated: list[Tensor] = []
    saved: list[Tensor] = []

    def watched(model: torch.nn.Module) -> Tensor:
        return model.get_parameter(WATCHED).detach().clone()

    def after_step(module: SPDModule, *_: object) -> None:
        of_steps.append(watched(module.model))

    validation_step, save = SPDModule.validation_step, answers.save

    def at_validation(module: SPDModule, *batch: Any) -> None:
        validated.append(watched(module.model))
        validation_step(module, *batch)

    def when_saved(model: SPD, *rest: Any, **options: Any) -> None:
        saved.append(watched(model))
        save(model, *rest, **options)

    monkeypatch.setattr(SPDModule, "on_train_batch_end", after_step)
    monkeypatch.setattr(SPDModule, "validation_step", at_validation)
    monkeypatch.setattr(answers, "save", when_saved)

    folder = run.train(_config(root, tmp_path / "run", DECAY))

    assert len(of_steps) == 5
    average, averages = of_steps[0], [of_steps[0]]
    for weights in of_steps[1:]:
        average = DECAY * average + (1 - DECAY) * weights
        averages.append(average)
    assert (averages[-1] - of_steps[-1]).abs().max() > 1e-4  # They do differ.
    at_end = load_file(folder / "model.safetensors")[WATCHED]
    torch.testing.assert_close(at_end, averages[-1], atol=1e-6, rtol=1e-5)
    # Two or more validations lie between the steps, each of an epoch's average; the same weights are then written.
    assert len(validated) >= 2
    for seen, written in zip(validated, saved, strict=False):
        assert torch.equal(seen, written)
        assert any(torch.allclose(seen, each, atol=1e-6, rtol=1e-5) for each in averages)


def test_training_itself_does_not_see_the_average(tmp_path: Path) -> None:
    root = write_rooms(tmp_path / "rooms", num=6, seed=0, size=(64, 96), workers=1).parent
    with_average = run.train(_config(root, tmp_path / "with", DECAY))
    without = run.train(_config(root, tmp_path / "without", None))
    current = (
        torch.load(with_average / "last.ckpt", weights_only=True) if (with_average / "last.ckpt").exists() else None
    )
    plain = load_file(without / "model.safetensors")[WATCHED]
    averaged = load_file(with_average / "model.safetensors")[WATCHED]
    assert not torch.allclose(plain, averaged, atol=1e-5)
    assert torch.equal(current["current_model_state"][f"model.{WATCHED}"], plain)


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.5])
def test_a_decay_outside_zero_to_one_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match=f"ema_decay must be between 0 and 1, got {decay}"):
        TrainConfig(ema_decay=decay)
