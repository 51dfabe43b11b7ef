"""The likelihood against PyTorch's own Laplace distribution, and what it teaches: the scale alone, or depth too."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spd.config import ModelConfig
from spd.data.batches import TrainingBatch
from spd.train_config import DataConfig, LossConfig, TrainConfig
from spd.training.losses import likelihood_loss
from spd.training.module import SPDModule

SMALL = ModelConfig.atto(train_size=(64, 96), dropout=0.0)


def test_likelihood_equals_that_of_a_laplace_distribution() -> None:
    generator = torch.Generator().manual_seed(0)
    log_depth, log_scale, truth = torch.randn(3, 3, 20, generator=generator)
    valid = torch.rand(3, 20, generator=generator) < 0.5
    valid[1] = False
    expected = [
        -torch.distributions.Laplace(log_depth[i][valid[i]], log_scale[i][valid[i]].exp())
        .log_prob(truth[i][valid[i]])
        .mean()
        for i in (0, 2)
    ]
    loss = likelihood_loss(log_depth, log_scale, truth, valid)
    torch.testing.assert_close(loss.mean, torch.stack(expected).mean())
    assert loss.skipped.item() == 1


@pytest.fixture(scope="module")
def batch() -> TrainingBatch:
    generator = torch.Generator().manual_seed(0)
    return TrainingBatch(
        images=torch.rand(2, 3, 64, 96, generator=generator),
        depth_m=torch.linspace(1, 3, 96).expand(2, 64, 96).contiguous(),
        query_points=torch.rand(2, 7, 2, generator=generator) * 60,
        query_depth_m=torch.rand(2, 7, generator=generator).add(0.5),
        query_mask=torch.ones(2, 7, dtype=torch.bool),
        indices=torch.arange(2),
        data_sets=torch.zeros(2, dtype=torch.long),
        depth_scale=torch.ones(2),
    )


def gradients(
    batch: TrainingBatch, monkeypatch: pytest.MonkeyPatch, *, log_std: bool, weight: float
) -> dict[str, Tensor]:
    """Of a step's loss, after clipping, by parameter."""
    torch.manual_seed(0)
    config = TrainConfig(
        model=ModelConfig.atto(train_size=(64, 96), dropout=0.0, log_std=log_std),
        data=DataConfig(batch_size=2),
        loss=LossConfig(likelihood_weight=weight),
    )
    module = SPDModule(config)
    # The same random weights, whether a scale was made between them or not.
    torch.manual_seed(1)
    plain = SPDModule(TrainConfig(model=SMALL, data=DataConfig(batch_size=2)))
    module.load_state_dict(plain.state_dict(), strict=False)
    monkeypatch.setattr(module, "_log_step", lambda *_: None)
    module.training_step(batch, 0).backward()
    module.configure_gradient_clipping(torch.optim.SGD(module.parameters(), 1.0), gradient_clip_val=0.1)
    return {name: parameter.grad for name, parameter in module.named_parameters() if parameter.grad is not None}


def test_without_a_weight_depth_learns_as_if_there_were_no_scale(
    batch: TrainingBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = gradients(batch, monkeypatch, log_std=False, weight=0.0)
    beside = gradients(batch, monkeypatch, log_std=True, weight=0.0)
    scale = {name for name in beside if "scale_head" in name}
    assert len(scale) == 5
    assert beside["model.scale_head.output.weight"].abs().max() > 0
    assert beside.keys() - scale == without.keys()
    assert all(torch.equal(beside[name], without[name]) for name in without)


def test_with_a_weight_the_likelihood_teaches_depth_too(batch: TrainingBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    beside = gradients(batch, monkeypatch, log_std=True, weight=0.0)
    jointly = gradients(batch, monkeypatch, log_std=True, weight=1.0)
    name = "model.depth_head.output.weight"
    assert not torch.allclose(beside[name], jointly[name], rtol=0.01)
