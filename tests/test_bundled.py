"""The checkpoint that comes with the package: it is there, whole, and knows near from far."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hatchling.builders.wheel import WheelBuilder
from PIL import Image
from safetensors.torch import load_file
from scipy.stats import rankdata

import spd
from spd.bundled import BUNDLED, bundled_folder
from spd.checkpoint import load_network, read_config
from spd.data.rooms import Room, render_room
from spd.model.spd import SPD
from spd.predictor import Predictor
from spd.training.recipes import RECIPES

ROOM = Path(__file__).parents[1] / "docs" / "images" / "room.jpg"
MAX_BYTES = 20e6


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return spd.load()


def test_lies_in_the_package_in_half_precision_and_fits() -> None:
    folder = bundled_folder()
    assert folder.is_relative_to(Path(spd.__file__).parent)
    weights = folder / "model.safetensors"
    assert weights.stat().st_size <= MAX_BYTES
    parameters = {name for name, _ in load_network(folder, SPD).named_parameters()}
    assert {tensor.dtype for name, tensor in load_file(weights).items() if name in parameters} == {torch.float16}


def test_recipes_may_start_from_it() -> None:
    """``spd train lite --init spd-lite``: the recipe's network has the tensors of these weights and no other."""
    with torch.device("meta"):
        expected = SPD(RECIPES["lite"]().model).state_dict()
    found = load_network(bundled_folder(), SPD).state_dict()
    assert {name: tensor.shape for name, tensor in expected.items()} == {name: t.shape for name, t in found.items()}


def test_name_stands_for_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    named, found = load_network(BUNDLED, SPD).state_dict(), load_network(bundled_folder(), SPD).state_dict()
    assert all(torch.equal(named[name], found[name]) for name in found)


def test_a_folder_goes_before_the_name_and_not_before_no_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / BUNDLED).mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"config\.json"):
        load_network(BUNDLED, SPD)
    spd.load()


def test_card_names_checksum_terms_limits_and_figures() -> None:
    card = (bundled_folder() / "README.md").read_text("utf-8")
    config = read_config(bundled_folder())
    assert config["checksum"] in card
    assert "research use only" in config["provenance"]["data_terms"]
    notes = (ROOM.parents[1] / f"{BUNDLED}.md").read_text("utf-8").strip()
    assert notes in card
    for fact in ("steps of 4 cm", "give the intrinsics", "research and non-commercial use only"):
        assert fact in notes
    assert re.search(r"\| NYU Depth V2 test, K = 256 \| \.\d{3} ± \.\d{3} \|", notes)
    assert re.search(r"\| 29 scenes of other cameras, mean over scenes \| \.\d{3} \|", notes)


def test_lies_in_the_wheel() -> None:
    builder = WheelBuilder(str(ROOM.parents[2]))
    shipped = {file.distribution_path for file in builder.recurse_included_files()}
    folder = f"spd/weights/{BUNDLED}"
    assert {f"{folder}/{name}" for name in ("model.safetensors", "config.json", "README.md", "LICENSE")} <= shipped


@pytest.fixture(scope="module")
def room() -> Room:
    """The room of the demo, whose depth its renderer knows."""
    return render_room(11, 2, (480, 640), near=0.0)


def test_picture_of_the_demo_is_that_room(room: Room) -> None:
    picture = np.asarray(Image.open(ROOM), np.float32)
    assert np.abs(picture - room.image).mean() < 3


def test_tells_near_from_far_in_a_drawn_room(predictor: Predictor, room: Room) -> None:
    x, y = np.meshgrid(np.arange(20, 640, 40), np.arange(20, 480, 40))
    points = np.stack((x.ravel(), y.ravel()), axis=1)
    depth_m, true_m = predictor(ROOM, points), room.depth_m[points[:, 1], points[:, 0]]
    assert np.corrcoef(rankdata(depth_m), rankdata(true_m))[0, 1] > 0.7
    assert np.abs(np.log(np.median(depth_m / true_m))) < np.log(1.5)
