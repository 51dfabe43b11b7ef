"""Depth Anything with a small random network that the tests save, against transformers' own processor and loops."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor

from spd.baselines import depth_anything
from spd.baselines.depth_anything import DEFAULT_SOURCE, DepthAnything, load, weights_checksum
from spd.predictor import DepthPredictor, Predictor

transformers = pytest.importorskip("transformers")

SIZE = 56
"""In place of 518, so that a test takes no time: four patches of 14."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "depth-anything"
    backbone = transformers.Dinov2Config(
        hidden_size=24,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=SIZE,
        patch_size=14,
        out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=14,
        reassemble_hidden_size=24,
        neck_hidden_sizes=[8, 12, 16, 24],
        fusion_hidden_size=16,
        head_hidden_size=8,
        depth_estimation_type="metric",
        max_depth=20,
    )
    torch.manual_seed(0)
    network = transformers.DepthAnythingForDepthEstimation(config)
    with torch.no_grad():
        for parameter in network.parameters():
            # Large enough for maps with structure: random heads answer half of the range everywhere.
            parameter += 0.15 * torch.randn(parameter.shape)
    network.save_pretrained(folder)
    processor().save_pretrained(folder)
    return folder


def processor() -> Any:
    """transformers' own, with the published checkpoint's values but the size."""
    return transformers.DPTImageProcessor(
        size={"height": SIZE, "width": SIZE},
        keep_aspect_ratio=True,
        ensure_multiple_of=14,
        resample=3,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(saved, tmp_path / "depth-anything"))


@pytest.fixture(scope="module")
def predictor(saved: Path) -> Predictor:
    return load(saved, device="cpu")


@pytest.fixture(scope="module")
def model(predictor: Predictor) -> DepthAnything:
    assert isinstance(predictor.model, DepthAnything)
    return predictor.model


def edit(folder: Path, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads((folder / name).read_text())
    change(values)
    (folder / name).write_text(json.dumps(values))


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    """uint8 RGB with smooth parts, edges and noise, so that filters differ and values overshoot."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    smooth = 127 + 120 * np.sin(np.stack((rows / 9, columns / 7, (rows + columns) / 11), axis=-1))
    smooth[height // 3 : height // 2, width // 4 :] = (255, 0, 255)
    return np.clip(smooth + rng.normal(0, 8, smooth.shape), 0, 255).astype(np.uint8)


def as_images(*pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255


def corner_aligned(map_m: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear with align_corners=True, in loops: pixel i of n reads at i · (m - 1) / (n - 1)."""
    (rows, columns), (height, width) = map_m.shape, size
    resized = np.empty(size)
    for v in range(height):
        for u in range(width):
            y, x = v * (rows - 1) / (height - 1), u * (columns - 1) / (width - 1)
            top, left = min(int(y), rows - 2), min(int(x), columns - 2)
            upper = map_m[top, left] * (left + 1 - x) + map_m[top, left + 1] * (x - left)
            lower = map_m[top + 1, left] * (left + 1 - x) + map_m[top + 1, left + 1] * (x - left)
            resized[v, u] = upper * (top + 1 - y) + lower * (y - top)
    return resized


class TestPreparation:
    @pytest.mark.parametrize(
        "size", [(48, 64), (64, 48), (30, 90), (200, 300), (300, 200), (56, 75), (40, 53), (56, 56), (97, 33)]
    )
    def test_is_that_of_transformers(self, model: DepthAnything, size: tuple[int, int]) -> None:
        """On floats exactly; on 8-bit images within the level by which it rounds twice."""
        pixels = photo(*size)
        images = as_images(pixels)
        given = processor()(images=pixels, return_tensors="pt")["pixel_values"]
        prepared = model.prepare(images)
        assert prepared.shape == given.shape
        # Each of its two passes rounds to 8 bits.
        levels = ((prepared - given) * model.std * 255).abs()
        assert levels.max() < 1.2
        assert levels.mean() < 0.35
        # Values that do not overshoot need no clamp, which floats do not get there.
        soft = 0.25 + 0.5 * images
        unrounded = processor()(images=soft, do_rescale=False, return_tensors="pt")["pixel_values"]
        torch.testing.assert_close(model.prepare(soft), unrounded, atol=1e-5, rtol=1e-5)

    def test_is_that_of_pil(self, model: DepthAnything) -> None:
        """The bicubic filter of PIL's own code, where the image grows and where it shrinks."""
        for size in ((48, 64), (160, 120)):
            pixels = photo(*size)
            prepared = model.prepare(as_images(pixels))[0]
            height, width = prepared.shape[-2:]
            resized = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))
            expected = (resized / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
            levels = (prepared.permute(1, 2, 0).numpy() - expected) * (0.229, 0.224, 0.225) * 255
            assert np.abs(levels).max() < 1.2

    @pytest.mark.parametrize("size", [(480, 640), (640, 480), (1080, 1920), (768, 1024), (200, 200), (375, 1242)])
    def test_size_of_the_published_configuration(self, model: DepthAnything, size: tuple[int, int]) -> None:
        """As transformers' own processor gives them; 640x480 becomes 686x518."""
        images = np.zeros((*size, 3), np.uint8)
        expected = processor()(images=images, size={"height": 518, "width": 518}, return_tensors="pt")["pixel_values"]
        found = replace(model.config, size=(518, 518)).input_size(size)
        assert found == tuple(expected.shape[-2:])
        if size == (480, 640):
            assert found == (518, 686)

    def test_a_strip_keeps_a_patch(self, model: DepthAnything) -> None:
        assert model.config.input_size((3, 400)) == (14, 56)


class TestDepth:
    @pytest.mark.parametrize("size", [(48, 64), (75, 52)])
    def test_is_that_of_transformers_brought_back_as_the_authors_do(
        self, saved: Path, predictor: Predictor, size: tuple[int, int]
    ) -> None:
        pixels = photo(*size) // 2 + 64  # Nothing overshoots, so transformers may get floats and round nothing.
        network = transformers.AutoModelForDepthEstimation.from_pretrained(saved).eval()
        with torch.no_grad():
            inputs = processor()(images=as_images(pixels), do_rescale=False, return_tensors="pt")
            seen_m = network(**inputs).predicted_depth[0]
        expected = corner_aligned(seen_m.double().numpy(), size)
        assert expected.std() > 0.01
        points = [(u, v) for v in range(size[0]) for u in range(size[1])]
        np.testing.assert_allclose(predictor(pixels, points), expected.ravel(), rtol=1e-4)

    def test_between_pixels_is_bilinear(self, predictor: Predictor) -> None:
        scene = predictor.encode(photo(48, 64))
        corners = scene([(10, 20), (11, 20), (10, 21), (11, 21)])
        weights = np.array([0.75 * 0.5, 0.25 * 0.5, 0.75 * 0.5, 0.25 * 0.5])
        assert scene([(10.25, 20.5)])[0] == pytest.approx(corners @ weights, rel=1e-5)
        np.testing.assert_allclose(scene([(-0.5, -0.4), (63.4, 47.3)]), scene([(0, 0), (63, 47)]), rtol=1e-5)

    def test_batch_of_two_equals_two_singles(self, model: DepthAnything) -> None:
        assert isinstance(model, DepthPredictor)
        images = as_images(photo(48, 64), photo(48, 64, seed=1))
        points = torch.rand(2, 7, 2) * 40
        with torch.no_grad():
            both = model.decode(model.encode(images), points)
            singles = [model.decode(model.encode(images[i : i + 1]), points[i : i + 1]) for i in range(2)]
        assert both.dtype == torch.float32
        torch.testing.assert_close(both, torch.cat(singles), atol=1e-4, rtol=1e-4)
        assert not torch.allclose(both[0], both[1])

    def test_knows_no_focal_length(self, predictor: Predictor) -> None:
        pixels = photo(48, 64)
        scene = predictor.encode(pixels, intrinsics=(30.0, 30.0, 32.0, 24.0))
        np.testing.assert_array_equal(scene([(3, 4)]), predictor(pixels, [(3, 4)]))

    def test_loading_uses_up_no_random_numbers(self, saved: Path) -> None:
        torch.manual_seed(5)
        expected = torch.rand(4)
        torch.manual_seed(5)
        load(saved, device="cpu")
        assert torch.equal(torch.rand(4), expected)


class TestRefusals:
    def test_relative_depth(self, folder: Path) -> None:
        edit(folder, "config.json", lambda values: values.update(depth_estimation_type="relative"))
        with pytest.raises(ValueError, match=r"depth_estimation_type must be metric.* got relative$"):
            load(folder)

    def test_another_model(self, folder: Path) -> None:
        edit(folder, "config.json", lambda values: values.update(model_type="zoedepth"))
        with pytest.raises(ValueError, match=r"model_type must be depth_anything, got zoedepth$"):
            load(folder)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"resample": 2}, "must have resample 3, got 2"),
            ({"do_resize": False}, "must have do_resize 1, got 0"),
            ({"size": {"shortest_edge": 518}}, "lacks a value: 'height'"),
            ({"image_mean": [0.5]}, "lacks a value: "),
        ],
    )
    def test_images_prepared_in_another_way(self, folder: Path, change: dict[str, Any], message: str) -> None:
        edit(folder, "preprocessor_config.json", lambda values: values.update(change))
        with pytest.raises(ValueError, match=message):
            load(folder)

    @pytest.mark.parametrize("text", ["", "[1]", "[" * 100_000])
    def test_configuration_that_is_none(self, folder: Path, text: str) -> None:
        (folder / "config.json").write_text(text)
        with pytest.raises(ValueError, match="is no metric Depth Anything of transformers"):
            load(folder)

    @pytest.mark.parametrize("name", ["model.safetensors", "config.json", "preprocessor_config.json"])
    def test_missing_file(self, folder: Path, name: str) -> None:
        (folder / name).unlink()
        with pytest.raises(ValueError, match=f"has no {name}$"):
            load(folder)

    def test_pickled_weights_are_not_opened(self, folder: Path) -> None:
        state = safetensors.torch.load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        torch.save(state, folder / "pytorch_model.bin")
        with pytest.raises(ValueError, match=r"has no model\.safetensors"):
            load(folder)

    def test_damaged_weights(self, folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:1000])
        with pytest.raises(ValueError, match=r"cannot read .*model\.safetensors") as caught:
            load(folder)
        assert "\n" not in str(caught.value)

    def test_missing_weights_are_not_made_up(self, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        path = folder / "model.safetensors"
        state = safetensors.torch.load_file(path)
        del state["head.conv3.weight"]
        safetensors.torch.save_file(state, path, metadata={"format": "pt"})
        with pytest.raises(ValueError, match=r"lacks head\.conv3\.weight"):
            load(folder)
        assert capfd.readouterr() == ("", "")  # transformers prints a table and a bar where it is let.

    def test_no_device(self, saved: Path) -> None:
        with pytest.raises(ValueError, match="device must be one that this machine has"):
            load(saved, device="cuda:77")


class TestHub:
    def test_offline_is_one_quick_line_that_says_what_to_do(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def snapshot_download(*_: Any, **__: Any) -> str:
            raise ConnectionError("no network\nwith a second line")

        monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
        start = time.perf_counter()
        for ask in (load, weights_checksum):
            with pytest.raises(ValueError, match=f"hf download {DEFAULT_SOURCE} --local-dir FOLDER") as caught:
                ask(DEFAULT_SOURCE)
            assert "\n" not in str(caught.value)
        assert time.perf_counter() - start < 5

    def test_downloads_what_is_needed(self, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = []

        def snapshot_download(repo_id: str, *, allow_patterns: list[str]) -> str:
            asked.append((repo_id, sorted(allow_patterns)))
            return str(saved)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
        assert load(device="cpu").train_size is None
        assert asked == [(DEFAULT_SOURCE, ["config.json", "model.safetensors", "preprocessor_config.json"])]

    def test_nothing_else_is_looked_for(self, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A local folder with all files needs no network, whatever transformers would like to check."""
        import socket

        def connect(*_: Any, **__: Any) -> None:
            raise AssertionError("a connection was tried")

        monkeypatch.setattr(socket.socket, "connect", connect)
        monkeypatch.setattr(socket, "getaddrinfo", connect)
        load(saved, device="cpu")


def test_checksum_is_that_of_the_weights(saved: Path) -> None:
    contents = (saved / "model.safetensors").read_bytes()
    assert weights_checksum(saved) == f"sha256:{hashlib.sha256(contents).hexdigest()}"


def test_without_transformers_the_error_names_it(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from spd.cli.errors import missing_extra

    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError) as caught:
        depth_anything.load(saved)
    assert missing_extra(caught.value) == "baselines"
