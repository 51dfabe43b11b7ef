"""The scale of log depth: its formula, what it does not touch, and novelty against Mahalanobis' distance."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from spd.baselines.bilinear_mlp import BilinearMLP
from spd.config import ModelConfig
from spd.model.network import DepthNetwork
from spd.model.scale_head import INITIAL_SCALE, SCALE_RANGE, ScaleHead
from spd.model.spd import SPD

CONFIG = ModelConfig.atto(train_size=(64, 96), log_std=True)


@pytest.fixture(scope="module", params=["joint", "anchored", "bilinear"])
def network(request: pytest.FixtureRequest) -> DepthNetwork:
    torch.manual_seed(0)
    if request.param == "bilinear":
        return BilinearMLP(ModelConfig.atto(train_size=(64, 96), log_std=True, architecture="bilinear")).eval()
    return SPD(CONFIG.with_interaction(request.param)).eval()


def lively(embed_dim: int, channels: int) -> ScaleHead:
    torch.manual_seed(1)
    head = ScaleHead(embed_dim, channels).double()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_(std=0.5)
    return head


def test_head_equals_its_formula() -> None:
    head = lively(6, 5)
    contexts = torch.randn(40, 5, dtype=torch.float64)
    head.learn_contexts(contexts)
    hidden, context = torch.randn(2, 3, 6, dtype=torch.float64), torch.randn(2, 5, dtype=torch.float64)
    cov = np.cov(contexts.numpy().T)
    ridge = 0.05 * np.trace(cov) / 5 + np.finfo(np.float32).eps
    inverse = np.linalg.inv(cov + ridge * np.eye(5))
    centred = context.numpy() - contexts.numpy().mean(0)
    novelty = np.log1p(np.einsum("bi,ij,bj->b", centred, inverse, centred) / 5)
    wide = hidden @ head.hidden.weight.T + head.hidden.bias
    wide = wide + torch.from_numpy(novelty)[:, None, None] * head.novelty.weight[:, 0]
    raw = (wide * 0.5 * (1 + torch.erf(wide / 2**0.5))) @ head.output.weight[0] + head.output.bias
    torch.testing.assert_close(head(hidden, context), raw.clamp(*map(math.log, SCALE_RANGE)))
    assert (novelty > 0.05).all()


def test_before_contexts_are_learnt_no_image_is_novel() -> None:
    assert lively(6, 5).novelty_of(torch.randn(3, 5, dtype=torch.float64)).abs().max() == 0


def test_scale_stays_within_its_range() -> None:
    head = lively(6, 5)
    log_scale = head(1e4 * torch.randn(2, 300, 6, dtype=torch.float64), torch.zeros(2, 5, dtype=torch.float64))
    low, high = map(math.log, SCALE_RANGE)
    assert log_scale.min().item() == low
    assert log_scale.max().item() == high


def test_depth_has_the_same_bits_with_and_without_its_spread(network: DepthNetwork) -> None:
    images, points = torch.rand(2, 3, 64, 96), torch.rand(2, 9, 2) * torch.tensor([95.0, 63.0])
    with torch.inference_mode():
        memory = network.encode(images)
        depth_m, log_std = network.decode_with_std(memory, points)
        assert torch.equal(depth_m, network.decode(memory, points))
        assert network.scale_head is not None
        log_scale = network.scale_head(network.decode_states(memory, points), network.context(memory))
    # The variance of a Laplace distribution is 2 b².
    torch.testing.assert_close(log_std.square(), 2 * log_scale.exp().square())
    assert log_std.shape == (2, 9)
    assert log_std.dtype == torch.float32
    assert log_std.median().item() == pytest.approx(2**0.5 * INITIAL_SCALE, rel=0.2)


def test_the_answer_about_an_image_does_not_depend_on_others_in_its_batch(network: DepthNetwork) -> None:
    images, points = torch.rand(2, 3, 64, 96), torch.rand(2, 9, 2) * torch.tensor([95.0, 63.0])
    assert network.scale_head is not None
    with torch.inference_mode():
        contexts = network.context(network.encode(torch.rand(12, 3, 64, 96)))
        network.scale_head.learn_contexts(contexts)
        network.scale_head.novelty.weight.fill_(0.5)
        _, both = network.decode_with_std(network.encode(images), points)
        _, second = network.decode_with_std(network.encode(images[1:]), points[1:])
    torch.testing.assert_close(both[1:], second, rtol=1e-4, atol=0)


def test_every_parameter_of_the_scale_has_a_gradient(network: DepthNetwork) -> None:
    memory = network.encode(torch.rand(1, 3, 64, 96))
    _, log_std = network.decode_with_std(memory, torch.rand(1, 9, 2) * 60)
    assert network.scale_head is not None
    gradients = torch.autograd.grad(log_std.log().sum(), list(network.scale_head.parameters()))
    assert len(gradients) == 5


def test_a_model_without_it_says_how_to_get_it() -> None:
    model = SPD(ModelConfig.atto(train_size=(64, 96)))
    with pytest.raises(ValueError, match=r"trained with --model\.log-std true"):
        model.decode_with_std(model.encode(torch.rand(1, 3, 64, 96)), torch.zeros(1, 1, 2))
