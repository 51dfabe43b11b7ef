"""The encoder against timm's own features; weights through timm's loader from files made here."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import save_file

from spd.model.convnext import ConvNeXtEncoder
from spd.model.encoder import Encoder
from spd.model.encoders import create_encoder

NAME = "convnextv2_atto.fcmae_ft_in1k"
SMALL = "test_convnext2"
"""timm's own 0.5 M ConvNeXt for tests."""


def _encoder(name: str = SMALL, heads: int = 6) -> Encoder:
    torch.manual_seed(0)
    encoder = create_encoder(name)
    encoder.add_self_attention(heads, ffn_ratio=4, dropout=0.1)
    return encoder.eval()


def _silence(encoder: Encoder) -> None:
    """Zero the output projections of the self-attention blocks: they become the identity."""
    assert encoder.self_attention is not None
    with torch.no_grad():
        for block in encoder.self_attention:
            for layer in (block.attention.output, block.ffn[-1]):
                layer.weight.zero_()
                layer.bias.zero_()


def _lively_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Noise on all weights: timm starts the response normalisation and biases at zero, where errors would hide."""
    generator = torch.Generator().manual_seed(1)
    return {name: w + 0.05 * torch.randn(w.shape, generator=generator) for name, w in model.state_dict().items()}


@pytest.mark.parametrize(
    ("name", "heads", "size"),
    [
        (NAME, 5, (64, 96)),
        (NAME, 5, (96, 32)),
        ("test_convnext", 6, (32, 192)),
        ("test_convnext2", 6, (160, 64)),
    ],
)
def test_without_self_attention_the_features_are_those_of_timm(name: str, heads: int, size: tuple[int, int]):
    encoder = _encoder(name, heads)
    _silence(encoder)
    independent = timm.create_model(name, pretrained=False).eval()
    independent.load_state_dict(_lively_state(independent))
    shared = {k: w for k, w in independent.state_dict().items() if not k.startswith("head.")}
    encoder.backbone.load_state_dict(shared)
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(2))

    with torch.no_grad():
        features = encoder(images)
        expected = independent.forward_intermediates(images, intermediates_only=True)

    assert len(features) == len(expected) == 4
    for stage, stride, ours, theirs in zip(range(4), (4, 8, 16, 32), features, expected, strict=True):
        assert ours.shape == (2, encoder.channels[stage], size[0] // stride, size[1] // stride)
        assert theirs.std() > 1e-3
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_self_attention_acts_on_the_third_stage_and_the_fourth_inherits_it():
    encoder = _encoder()
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        acting = encoder(images)
        _silence(encoder)
        silent = encoder(images)
    for stage in (0, 1):
        assert torch.equal(acting[stage], silent[stage])
    for stage in (2, 3):
        assert not torch.allclose(acting[stage], silent[stage], atol=1e-3)


def test_a_distant_pixel_reaches_every_cell_of_the_third_stage():
    encoder = _encoder()
    images = torch.randn(1, 3, 32, 512)
    changed = images.clone()
    changed[..., -4:] += 1.0
    with torch.no_grad():
        difference = (encoder(changed)[2] - encoder(images)[2]).abs().amax(dim=1)
    assert (difference > 0).all()


def test_unknown_model_is_named():
    for name in ("no_such_model", "convnext_no_such_model"):
        with pytest.raises(ValueError, match=name) as caught:
            _encoder(name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "convmixer_768_32", "efficientnet_lite0"])
def test_other_families_are_refused(name: str):
    with pytest.raises(ValueError, match=f"ConvNeXt.* of timm.*{name}"):
        _encoder(name)


def test_a_norm_before_the_head_is_no_part_of_the_features():
    """Only this variant has one; unused it would have no gradient."""
    with torch.device("meta"):
        encoder = ConvNeXtEncoder("convnext_tiny_hnf")
    assert [name for name, _ in encoder.named_parameters() if "norm_pre" in name or "head" in name] == []


def test_unknown_tag_is_refused():
    with pytest.raises(ValueError, match="no_such_tag"):
        _encoder("convnextv2_atto.no_such_tag")


def test_every_parameter_is_used():
    encoder = _encoder()
    sum(features.sum() for features in encoder(torch.randn(1, 3, 64, 32))).backward()
    assert [name for name, parameter in encoder.named_parameters() if parameter.grad is None] == []


class TestPretrained:
    """Through timm's and the hub's own code; only the cache is ours."""

    @pytest.fixture(autouse=True)
    def cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """An empty cache of the Hugging Face hub, and no network."""
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
        return tmp_path

    def _publish(self, cache: Path, weights: dict[str, torch.Tensor]) -> None:
        repository = cache / f"models--timm--{NAME}"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text("0123abc")
        snapshot = repository / "snapshots" / "0123abc"
        snapshot.mkdir(parents=True)
        save_file(weights, snapshot / "model.safetensors")

    @pytest.mark.parametrize("name", [NAME, "convnextv2_atto"])
    def test_weights_of_a_cached_file_arrive(self, cache: Path, name: str):
        published = _lively_state(timm.create_model(NAME, pretrained=False))
        _publish(cache, NAME, published)
        encoder = _encoder(name, heads=5)
        attention = {key: w.clone() for key, w in encoder.self_attention.state_dict().items()}

        source = encoder.load_pretrained()

        assert source == (f"timm's {NAME}", "cc-by-nc-4.0")
        loaded = encoder.backbone.state_dict()
        assert set(loaded) == {key for key in published if not key.startswith("head.")}
        for key, weights in loaded.items():
            assert torch.equal(weights, published[key]), key
        for key, weights in encoder.self_attention.state_dict().items():
            assert torch.equal(weights, attention[key]), key

    def test_weights_of_the_first_stage_alone(self, cache: Path):
        published = timm.create_model(SMALL, pretrained=False).state_dict()
        _publish(cache, f"{SMALL}.r160_in1k", published)
        first = ConvNeXtEncoder(SMALL, num_stages=1)
        first.load_pretrained()
        loaded = first.backbone.state_dict()
        assert set(loaded) == {key for key in published if key.startswith(("stem.", "stages.0."))}
        assert all(torch.equal(weights, published[key]) for key, weights in loaded.items())

    def test_permissive_weights_say_so(self, cache: Path):
        _publish(cache, f"{SMALL}.r160_in1k", timm.create_model(SMALL, pretrained=False).state_dict())
        assert _encoder().load_pretrained().licence == "apache-2.0"

    def test_offline_without_a_cached_file_is_one_clear_line_and_changes_nothing(self):
        encoder = _encoder()
        before = {key: w.clone() for key, w in encoder.state_dict().items()}
        _fails_in_one_line(encoder)
        assert all(torch.equal(w, before[key]) for key, w in encoder.state_dict().items())

    def test_a_file_of_another_model_is_one_clear_line(self, cache: Path):
        _publish(cache, f"{SMALL}.r160_in1k", timm.create_model("test_convnext", pretrained=False).state_dict())
        _fails_in_one_line(_encoder())

    def test_a_truncated_file_is_one_clear_line(self, cache: Path):
        file = _publish(cache, f"{SMALL}.r160_in1k", timm.create_model(SMALL, pretrained=False).state_dict())
        file.write_bytes(file.read_bytes()[:-1000])
        _fails_in_one_line(_encoder())

    def test_a_model_without_published_weights_is_one_clear_line(self):
        _fails_in_one_line(_encoder("convnext_atto_rms", heads=5))


def _publish(cache: Path, name: str, weights: dict[str, torch.Tensor]) -> Path:
    """Put weights where the hub's client looks for those that it has downloaded."""
    repository = cache / f"models--timm--{name}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0123abc")
    file = repository / "snapshots" / "0123abc" / "model.safetensors"
    file.parent.mkdir(parents=True)
    save_file(weights, file)
    return file


def _fails_in_one_line(encoder: Encoder) -> None:
    with pytest.raises(ValueError, match=r"pretrained weights of \w+(\.\w+)? could not be loaded") as caught:
        encoder.load_pretrained()
    assert "\n" not in str(caught.value)
    assert "--model.pretrained false" in str(caught.value)
