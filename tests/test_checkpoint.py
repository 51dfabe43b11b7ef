from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor

from spd.checkpoint import finish_interrupted_save, load_model, read_config, save
from spd.config import ModelConfig
from spd.model.spd import SPD

CONFIG = ModelConfig.atto(train_size=(64, 96), focal_length=77.5, interaction="joint")
SAVED = CONFIG.with_alignment("center").to_json()
"""With what the encoder says of itself in the place of None."""


@pytest.fixture(scope="module")
def model() -> SPD:
    torch.manual_seed(3)
    return SPD(CONFIG).eval()


@pytest.fixture(scope="module")
def saved(model: SPD, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "checkpoint"
    save(model, folder, provenance={"data": "rooms", "steps": 12, "metrics": {"abs_rel": 0.25}})
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(saved, tmp_path / "checkpoint"))


def edit_config(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def edit_weights(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    """Change the tensors and bring the checksum up to date, as one who writes checkpoints wrongly would."""
    state = safetensors.torch.load_file(folder / "model.safetensors")
    change(state)
    replace_weights(folder, safetensors.torch.save(state))


def replace_weights(folder: Path, contents: bytes) -> None:
    (folder / "model.safetensors").write_bytes(contents)
    edit_config(folder, lambda config: config.update(checksum=f"sha256:{hashlib.sha256(contents).hexdigest()}"))


def test_same_answers_after_loading(model: SPD, saved: Path) -> None:
    images = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    points = torch.tensor([[[0.0, 0.0], [95.0, 63.0], [40.3, 11.8]]])
    loaded = load_model(saved)
    with torch.inference_mode():
        assert torch.equal(loaded(images, points), model(images, points))
    assert loaded.config.to_json() == SAVED
    assert not loaded.training


@pytest.mark.parametrize("moved", [0, 1, 2, 3])
def test_a_save_that_is_killed_between_two_moves_leaves_a_checkpoint(
    moved: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its weights are the old ones or the new, and so is what is said of them."""
    torch.manual_seed(4)
    other = SPD(CONFIG).eval()
    replace, count = Path.replace, 0

    def replace_or_die(self: Path, target: Path) -> Path:
        nonlocal count
        if count == moved:
            # As a kill: nothing is tidied up.
            monkeypatch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
            raise KeyboardInterrupt
        count += 1
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", replace_or_die)
    with contextlib.suppress(KeyboardInterrupt):
        save(other, folder, provenance={"data": "others", "steps": 13})
    monkeypatch.undo()
    # The process is gone, as a kill would have it.
    for path in folder.glob(".*.tmp"):
        path.rename(path.with_name(re.sub(r"-\d+\.tmp$", "-999999999.tmp", path.name)))
    steps = read_config(folder)["provenance"]["steps"]
    assert steps == (12 if moved == 0 else 13)
    expected = load_model(folder).state_dict()
    name = max(expected, key=lambda name: expected[name].numel())
    assert torch.equal(expected[name], other.state_dict()[name]) == (moved > 0)
    finish_interrupted_save(folder)
    assert json.loads((folder / "config.json").read_text())["provenance"]["steps"] == steps
    save(other, folder, provenance={"steps": 14})
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert read_config(folder)["provenance"]["steps"] == 14


def test_files_of_others_are_not_replaced(model: SPD, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("beside")
    save(model, tmp_path)
    save(model, tmp_path)
    (tmp_path / "config.json").write_text('{"name": "of another program"}')
    with pytest.raises(ValueError, match="that is of no checkpoint of SPD; choose another folder"):
        save(model, tmp_path)
    assert (tmp_path / "config.json").read_text() == '{"name": "of another program"}'


def test_what_is_in_the_folder(model: SPD, saved: Path) -> None:
    assert sorted(path.name for path in saved.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    config = json.loads((saved / "config.json").read_text())
    assert config["format"] == 1
    assert config["model"]["focal_length"] == 77.5
    assert config["model"]["interaction"] == "joint"
    assert config["provenance"] == {"data": "rooms", "steps": 12, "metrics": {"abs_rel": 0.25}}
    assert safetensors.torch.load_file(saved / "model.safetensors").keys() == model.state_dict().keys()


def test_focal_length_is_saved_in_pixels_where_it_is_left_to_the_default(tmp_path: Path) -> None:
    config = ModelConfig.atto(train_size=(64, 96))
    save(SPD(config), tmp_path)
    assert load_model(tmp_path).config.focal_length == config.canonical_focal_length


def test_saving_replaces_and_leaves_other_files_alone(model: SPD, folder: Path) -> None:
    (folder / "last.ckpt").write_bytes(b"resume")
    other = SPD(CONFIG)
    save(other, folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "config.json",
        "last.ckpt",
        "model.safetensors",
    ]
    loaded = load_model(folder).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in other.state_dict().items())
    assert any(not torch.equal(loaded[name], tensor) for name, tensor in model.state_dict().items())


def test_loading_uses_up_no_random_numbers(saved: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    load_model(saved)
    assert torch.equal(torch.rand(4), expected)


def test_pretrained_model_is_loaded_without_its_timm_weights(
    model: SPD, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights are in the checkpoint: nothing may be looked for elsewhere."""
    create_model = timm.create_model

    def create_random(*values: Any, pretrained: bool = False, **settings: Any) -> Any:
        assert not pretrained
        return create_model(*values, pretrained=pretrained, **settings)

    monkeypatch.setattr(timm, "create_model", create_random)
    edit_config(folder, lambda config: config["model"].update(pretrained=True))
    loaded = load_model(folder)
    assert loaded.config.pretrained
    state = loaded.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


def test_provenance_must_be_json(model: SPD, tmp_path: Path) -> None:
    for value in (Path("x"), float("nan")):
        with pytest.raises(ValueError, match="provenance must hold JSON values only"):
            save(model, tmp_path / "new", provenance={"data": value})
    assert not (tmp_path / "new").exists()


def test_folder_must_not_be_a_file(model: SPD, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"must be a folder .* got the file"):
        save(model, tmp_path / "file")
    with pytest.raises(ValueError, match=r"a checkpoint is a folder .* got the file"):
        load_model(tmp_path / "file")


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no checkpoint folder .*/nothing$"):
        load_model(tmp_path / "nothing")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"has no {name}$"):
        load_model(folder)


@pytest.mark.parametrize("text", ["", "{", "\xff", "[" * 100_000])
def test_config_that_is_not_json(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"config.json is not JSON"):
        load_model(folder)


@pytest.mark.parametrize("text", ["[]", "{}", '"format"', '{"model": {}}'])
def test_config_of_something_else(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(ValueError, match="not the configuration of an SPD checkpoint"):
        load_model(folder)


def test_other_format(folder: Path) -> None:
    edit_config(folder, lambda config: config.update(format=2, spd_version="9.0"))
    with pytest.raises(ValueError, match=r"has format 2, written by SPD 9\.0; this SPD reads format 1"):
        load_model(folder)


@pytest.mark.parametrize("name", ["model", "checksum", "provenance"])
def test_config_that_lacks_a_part(folder: Path, name: str) -> None:
    edit_config(folder, lambda config: config.pop(name))
    with pytest.raises(ValueError, match=f"must have '{name}', a JSON"):
        load_model(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"new_field": 1}, "unknown fields new_field"),
        ({"train_size": [64, 95]}, "train_size must be"),
        ({"num_heads": "three"}, "config.json: "),
        ({"encoder": "resnet18"}, "encoder must be"),
        ({"encoder": "no_such_model"}, "encoder must be"),
    ],
)
def test_config_with_a_wrong_value(folder: Path, change: dict[str, Any], message: str) -> None:
    edit_config(folder, lambda config: config["model"].update(change))
    with pytest.raises(ValueError, match=message):
        load_model(folder)


def test_config_that_lacks_a_field(folder: Path) -> None:
    edit_config(folder, lambda config: config["model"].pop("embed_dim"))
    with pytest.raises(ValueError, match="lacks the fields embed_dim"):
        load_model(folder)


def test_config_whose_variant_lacks_a_field(folder: Path) -> None:
    edit_config(folder, lambda config: config["model"]["variant"].pop("alignment"))
    with pytest.raises(ValueError, match="lacks the fields alignment"):
        load_model(folder)


def test_config_of_the_first_version(folder: Path) -> None:
    """It had one architecture, and the switches of the variant among the sizes."""

    def as_first(config: dict[str, Any]) -> None:
        config["model"] |= config["model"].pop("variant")
        del config["model"]["architecture"], config["model"]["without"]

    edit_config(folder, as_first)
    assert load_model(folder).config.to_json() == SAVED


def test_changed_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    contents = bytearray(path.read_bytes())
    contents[-1] ^= 1
    path.write_bytes(contents)
    with pytest.raises(ValueError, match=r"checksum is sha256:.*changed or its download is incomplete"):
        load_model(folder)


def test_truncated_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="download is incomplete"):
        load_model(folder)


@pytest.mark.parametrize("contents", [b"", b"not safetensors", struct.pack("<Q", 2**60) + b"{}"])
def test_weights_that_are_not_safetensors(folder: Path, contents: bytes) -> None:
    replace_weights(folder, contents)
    with pytest.raises(ValueError, match="is not a safetensors file"):
        load_model(folder)


def test_pickled_weights_are_not_opened(folder: Path, tmp_path: Path) -> None:
    """A pickle that would write a file when it is opened, in place of the weights."""

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    torch.save(Trap(), tmp_path / "trap")
    replace_weights(folder, (tmp_path / "trap").read_bytes())
    with pytest.raises(ValueError, match="is not a safetensors file"):
        load_model(folder)
    assert not (tmp_path / "sprung").exists()


def test_missing_tensors_are_named(folder: Path, model: SPD) -> None:
    names = sorted(model.state_dict())
    edit_weights(folder, lambda state: state.pop(names[7]))
    with pytest.raises(ValueError, match=f"it lacks {names[7]}$"):
        load_model(folder)


def test_unexpected_tensors_are_named(folder: Path) -> None:
    edit_weights(folder, lambda state: state.update({f"auxiliary.{i}": torch.zeros(1) for i in range(6)}))
    expected = "has unexpected auxiliary.0, auxiliary.1, auxiliary.2, auxiliary.3 and 2 more$"
    with pytest.raises(ValueError, match=expected):
        load_model(folder)


def test_other_shapes_are_named(folder: Path) -> None:
    edit_config(folder, lambda config: config["model"].update(head_ratio=3))
    with pytest.raises(ValueError, match=r"has another shape of depth_head\S* \(192,.*in place of \(288,"):
        load_model(folder)


def test_hub_repository_is_downloaded(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def snapshot_download(repo_id: str, *, allow_patterns: list[str]) -> str:
        asked.append((repo_id, sorted(allow_patterns)))
        return str(saved)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    for source in ("someone/rooms-atto", "hf://someone/rooms-atto"):
        assert load_model(source).config.to_json() == SAVED
    assert asked == [("someone/rooms-atto", ["README.md", "config.json", "model.safetensors"])] * 2


def test_a_folder_goes_before_the_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", None)
    monkeypatch.chdir(folder.parent.parent)
    assert load_model(f"{folder.parent.name}/{folder.name}").config.to_json() == SAVED


def test_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot_download(repo_id: str, **_: Any) -> str:
        raise ConnectionError("no network\nwith a second line")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(
        ValueError, match=r"no folder runs/missing here, and the Hugging Face hub gave none: no network$"
    ):
        load_model("runs/missing")


@pytest.mark.parametrize("source", ["../missing/x", "/missing", "a/b/c", "./missing", "hf://", "missing", Path("a/b")])
def test_what_is_no_repository_is_not_asked_for(source: str | Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", None)
    with pytest.raises(ValueError, match="no checkpoint folder"):
        load_model(source)


def test_model_card_says_what_it_is(saved: Path, model: SPD) -> None:
    card = (saved / "README.md").read_text()
    parameters = sum(tensor.numel() for tensor in safetensors.torch.load_file(saved / "model.safetensors").values())
    for fact in (
        f"{parameters:,}",
        "96x64",
        "77.5 pixels",
        "- steps: 12",
        "- metrics:\n  - abs_rel: 0.25\n",
        "z-depth",
        "indoor",
        "license: other\n",
        "not recorded",
        f"sha256:{hashlib.sha256((saved / 'model.safetensors').read_bytes()).hexdigest()} |",
    ):
        assert fact in card


def test_model_card_holds_notes(model: SPD, tmp_path: Path) -> None:
    save(model, tmp_path, notes="## Accuracy\n\nGood.")
    assert "\n## Accuracy\n\nGood.\n\n## Use\n" in (tmp_path / "README.md").read_text()


def test_half_precision_halves_the_file_and_loads_into_float32(model: SPD, saved: Path, tmp_path: Path):
    save(model, tmp_path / "half", dtype=torch.float16)
    full, half = ((folder / "model.safetensors").stat().st_size for folder in (saved, tmp_path / "half"))
    assert half < 0.51 * full
    for name, weights in load_model(tmp_path / "half").state_dict().items():
        assert weights.dtype == torch.float32
        assert torch.equal(weights, model.state_dict()[name].half().float())
