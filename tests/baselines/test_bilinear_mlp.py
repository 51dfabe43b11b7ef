"""The network against its formula in NumPy, its checkpoints, and its training by a recipe."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from spd.baselines import bilinear_mlp
from spd.baselines.bilinear_mlp import BilinearMLP
from spd.checkpoint import load_model, save
from spd.config import ModelConfig
from spd.model.spd import SPD
from spd.predictor import DepthPredictor
from spd.runtime.loading import load

CONFIG = ModelConfig.atto(architecture="bilinear", train_size=(64, 96))


@pytest.fixture(scope="module")
def model() -> BilinearMLP:
    torch.manual_seed(3)
    model = BilinearMLP(CONFIG).eval()
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        # timm starts biases and the response normalisation at zero, where errors would hide.
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model


def images_of(*size: int, batch: int = 2) -> torch.Tensor:
    return torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(0))


def test_equals_the_formula(model: BilinearMLP) -> None:
    """log depth = exp(s) · (w₂ · gelu(W₁ LN(C x) + b₁) + b₂), x the first stage of timm's own network, in float64."""
    independent = timm.create_model(CONFIG.encoder, pretrained=False, num_classes=0).eval()
    independent.load_state_dict({**independent.state_dict(), **model.encoder.backbone.state_dict()})
    images = images_of(64, 96, batch=1)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        features = independent.stages[0](independent.stem((images - mean) / std))[0].double().numpy()
    w = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}
    points = [(30.0, 20.0), (95.4, 63.4), (-0.5, 3.0), (37.3, 50.9)]
    expected = []
    level = np.einsum("oc,chw->ohw", w["projection.0.weight"][:, :, 0, 0], features)
    level += w["projection.0.bias"][:, None, None]
    centred = level - level.mean(axis=0)
    level = centred / np.sqrt((centred**2).mean(axis=0) + 1e-5)
    level = level * w["projection.1.weight"][:, None, None] + w["projection.1.bias"][:, None, None]
    for u, v in points:
        x, y = (min(max((p + 0.5) / 4 - 0.5, 0.0), n - 1.0) for p, n in ((u, 24), (v, 16)))
        left, top = min(int(x), 22), min(int(y), 14)
        upper = level[:, top, left] * (left + 1 - x) + level[:, top, left + 1] * (x - left)
        lower = level[:, top + 1, left] * (left + 1 - x) + level[:, top + 1, left + 1] * (x - left)
        read = upper * (top + 1 - y) + lower * (y - top)
        wide = w["depth_head.hidden.weight"] @ read + w["depth_head.hidden.bias"]
        gelu = np.array([0.5 * h * (1 + math.erf(h / math.sqrt(2))) for h in wide])
        raw = w["depth_head.output.weight"][0] @ gelu + w["depth_head.output.bias"][0]
        expected.append(math.exp(raw * math.exp(w["depth_head.log_scale"])))
    with torch.no_grad():
        answers = model(images, torch.tensor([points]))[0].numpy()
    assert np.std(expected) > 1e-3
    np.testing.assert_allclose(answers, expected, rtol=1e-4)


def test_follows_the_protocol(model: BilinearMLP) -> None:
    assert isinstance(model, DepthPredictor)


def test_batch_of_two_equals_two_singles(model: BilinearMLP) -> None:
    images, points = images_of(50, 70), torch.rand(2, 9, 2) * 45
    with torch.no_grad():
        both = model(images, points)
        singles = torch.cat([model(images[i : i + 1], points[i : i + 1]) for i in range(2)])
    assert both.dtype == torch.float32
    torch.testing.assert_close(both, singles, atol=1e-5, rtol=1e-5)


def test_points_do_not_see_each_other(model: BilinearMLP) -> None:
    images, points = images_of(64, 96), torch.rand(2, 9, 2) * 60
    with torch.no_grad():
        memory = model.encode(images)
        together = model.decode(memory, points)
        alone = torch.cat([model.decode(memory, points[:, i : i + 1]) for i in range(9)], dim=1)
        masked = model.decode(memory, points, torch.arange(9).expand(2, 9) % 2 == 0)
    torch.testing.assert_close(together, alone)
    assert torch.equal(together, masked)


def test_a_point_sees_its_surroundings_only() -> None:
    """52 pixels for two 7x7 convolutions on cells of 4, once the response norms of the whole map are silenced."""
    torch.manual_seed(0)
    model = BilinearMLP(CONFIG).eval()
    images = images_of(160, 192, batch=1)
    points = torch.tensor([[[81.5, 81.5]]]).requires_grad_()  # The centre of cell 20.
    asked = images.clone().requires_grad_()
    model(asked, points).sum().backward()
    assert asked.grad is not None
    seen = asked.grad[0].abs().sum(0) > 0
    rows, columns = (torch.nonzero(seen.any(dim)).flatten() for dim in (1, 0))
    for indices in (rows, columns):
        assert (indices.min().item(), indices.max().item()) == (81 - 25, 82 + 25)


def test_every_parameter_learns(model: BilinearMLP) -> None:
    model(images_of(64, 96), torch.rand(2, 5, 2) * 60).log().square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    model.zero_grad(set_to_none=True)


def test_starts_around_the_same_depth_as_spd() -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        depth_m = BilinearMLP(CONFIG).eval()(images_of(64, 96), torch.rand(2, 50, 2) * 60)
    assert 1.5 < depth_m.min() < depth_m.max() < 4.0


def test_answers_are_the_same_after_loading(model: BilinearMLP, tmp_path: Path, image: np.ndarray) -> None:
    save(model, tmp_path, provenance={"data": "rooms"})
    predictor = bilinear_mlp.load(tmp_path, device="cpu")
    from_memory = type(predictor).from_model(model)
    points = [(3.0, 4.5), (70.2, 40.1)]
    np.testing.assert_array_equal(predictor(image, points), from_memory(image, points))
    # As any network's, its depth is brought to the camera: at twice the focal length, twice as far.
    near, far = (predictor.encode(image, intrinsics=(f, f, 40.0, 24.0))(points) for f in (60.0, 120.0))
    np.testing.assert_allclose(far, 2 * near, rtol=1e-6)


def test_checkpoint_says_what_it_is(model: BilinearMLP, tmp_path: Path) -> None:
    save(model, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model"]["architecture"] == "bilinear"
    parameters = sum(parameter.numel() for parameter in model.parameters())
    card = (tmp_path / "README.md").read_text()
    assert "| architecture | bilinear |" in card
    assert f"| parameters | {parameters:,} |" in card


def test_each_loader_refuses_the_other(model: BilinearMLP, tmp_path: Path) -> None:
    save(model, tmp_path / "bilinear")
    save(SPD(ModelConfig.atto(train_size=(64, 96))), tmp_path / "spd")
    for refuse in (load, load_model):
        with pytest.raises(
            ValueError, match=r"architecture bilinear, not spd; spd\.baselines\.bilinear_mlp\.load reads"
        ):
            refuse(tmp_path / "bilinear")
    with pytest.raises(ValueError, match=r"architecture spd, not bilinear; spd\.load reads it$"):
        bilinear_mlp.load(tmp_path / "spd")


def test_wrong_configuration_is_refused() -> None:
    with pytest.raises(ValueError, match="BilinearMLP is of the architecture bilinear, got a configuration of spd"):
        BilinearMLP(ModelConfig.atto())
    with pytest.raises(ValueError, match="SPD is of the architecture spd, got a configuration of bilinear"):
        SPD(CONFIG)
