from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import pytest

from spd.cli.main import main, parse
from spd.train_config import TrainConfig
from spd.training import run as training_run
from spd.training.module import NonFiniteLossError
from spd.training.recipes import RECIPES


def flags(config: object, prefix: str = "") -> Iterator[str]:
    """Every field of a tree of dataclasses, as the flag that the issue promises for it."""
    for field in fields(config):  # type: ignore[arg-type]
        value = getattr(config, field.name)
        name = f"{prefix}{field.name.replace('_', '-')}"
        if is_dataclass(value):
            yield from flags(value, f"{name}.")
        else:
            yield f"--{name} "


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_alone_is_its_config(recipe: str) -> None:
    assert parse(["train", recipe]).options == RECIPES[recipe]()


@pytest.mark.parametrize("recipe", ["lite", "lite0", "nyu-tiny", "nyu-atto", "rooms-atto", "plan-v14"])
def test_every_field_is_a_flag(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", recipe, "--help"]) == 0
    text = capsys.readouterr().out.replace(",", " ")
    assert [flag for flag in flags(RECIPES[recipe]()) if f"{flag}" not in text] == []


def test_flags_change_the_recipe() -> None:
    line = (
        "train nyu-tiny --model.pretrained false --model.train-size 128 160 --data.train-splits train val "
        "--data.root somewhere --data.flip=False --optimizer.learning_rate 4e-4 --max-steps 7 --resume"
    )
    recipe = RECIPES["nyu-tiny"]()
    expected = replace(
        recipe,
        model=replace(recipe.model, pretrained=False, train_size=(128, 160)),
        data=replace(recipe.data, train_splits=("train", "val"), root=(Path("somewhere"),), flip=False),
        optimizer=replace(recipe.optimizer, learning_rate=4e-4),
        max_steps=7,
        resume=True,
    )
    assert parse(line.split()).options == expected
    assert recipe.model.pretrained  # or the first flag would have tested nothing


@pytest.mark.parametrize("words", ["--model bilinear", "--model=bilinear", "--model.architecture bilinear"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_trains_the_baseline(recipe: str, words: str) -> None:
    config = RECIPES[recipe]()
    expected = replace(config, model=replace(config.model, architecture="bilinear"))
    assert parse(["train", recipe, *words.split()]).options == expected


@pytest.mark.parametrize("words", ["--model.no-pretrained", "--model.pretrained False", "--model.pretrained=false"])
def test_ways_to_say_no(words: str) -> None:
    options: TrainConfig = parse(["train", "nyu-tiny", *words.split()]).options
    assert not options.model.pretrained


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "expected one of {lite, lite0, nyu-tiny"),
        ("nyu-big", "nyu-big"),
        ("nyu-atto --epochs 0", "error: epochs must be at least 1, got 0 (see"),
        ("nyu-atto --model.dropout 3", "dropout must be in [0, 1), got 3.0"),
        ("nyu-atto --model.train-size 100 160", "multiples of 32, got (100, 160)"),
        ("nyu-atto --model.pretraned false", "did you mean --model.pretrained"),
        ("nyu-atto --data.batch-size many", "many"),
        ("nyu-atto --accelerator tpu", "'tpu'"),
        ("nyu-atto --model median", "'median'"),
        ("nyu-atto --data.root", "--data.root"),
    ],
)
def test_bad_option_is_one_line_and_status_2(line: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *line.split()]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert output.err.startswith("spd: error: ")
    assert words in output.err
    assert "tyro" not in output.err


def test_loss_that_is_not_finite_is_one_line_and_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def train(config: TrainConfig) -> None:
        raise NonFiniteLossError("loss is nan at step 7")

    monkeypatch.setattr(training_run, "train", train)
    assert main(["train", "rooms-atto"]) == 1
    assert capsys.readouterr().err == "spd: error: loss is nan at step 7\n"


def test_a_loading_process_that_ends_is_one_line_and_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def train(config: TrainConfig) -> None:
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")

    monkeypatch.setattr(training_run, "train", train)
    assert main(["train", "rooms-atto"]) == 1
    output = capsys.readouterr().err
    assert output.startswith("spd: error: a process that loads data ended (DataLoader worker (pid 7)")
    assert "--resume" in output
    assert output.count("\n") == 1


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(config: TrainConfig) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(training_run, "train", train)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["train", "rooms-atto"])
