from __future__ import annotations

import pytest
import torch

from spd.config import ModelConfig
from spd.model.spd import SPD
from spd.profiling.contestants import (
    DenseNetwork,
    bilinear_contestant,
    counted,
    depth_anything_contestant,
    spd_contestant,
)
from spd.profiling.cost import model_cost

CPU = torch.device("cpu")


def test_depth_anything_is_the_small_one_with_the_known_cost() -> None:
    """24.8 M parameters; 57.6 G at 518x518 and 66.7 G at 476x630 (counted independently)."""
    pytest.importorskip("transformers")
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in DenseNetwork((480, 640)).parameters())
    assert parameters == pytest.approx(24.8e6, rel=0.005)
    for size, expected in (((518, 518), 57.6e9), ((476, 630), 66.7e9)):
        encode, _ = counted(lambda: DenseNetwork((480, 640)), size)
        assert encode == pytest.approx(expected, rel=0.005)


def test_pytorch_s_counter_has_the_cost_of_spd() -> None:
    config = ModelConfig.atto(train_size=(64, 96))
    encode, decode = counted(lambda: SPD(config), (64, 96))
    cost = model_cost(config, (64, 96), 33)
    assert (encode, decode(33)) == (cost.macs("encode"), cost.macs("decode"))


def test_a_dense_map_is_read_at_the_points_of_the_image() -> None:
    pytest.importorskip("transformers")
    torch.manual_seed(0)
    taking_part = depth_anything_contestant((28, 42), (32, 48), "torch", "float32", CPU)
    depth_m = taking_part.model.encode(taking_part.images)
    assert depth_m.shape == (1, 1, 32, 48)
    read = taking_part.model.decode(depth_m, torch.tensor([[[47.0, 0.0], [10.5, 31.0]]]))
    expected = torch.stack((depth_m[0, 0, 0, 47], depth_m[0, 0, 31, 10:12].mean()))
    torch.testing.assert_close(read[0], expected)


def test_contestants_answer_and_count() -> None:
    for taking_part in (
        spd_contestant("atto", "anchored", (64, 96), "torch", "float32", CPU),
        bilinear_contestant("atto", (64, 96), "torch", "bfloat16", CPU),
    ):
        answer = taking_part.model.decode(taking_part.model.encode(taking_part.images), torch.rand(1, 5, 2) * 60)
        assert answer.shape == (1, 5)
        assert answer.dtype == torch.float32
        assert taking_part.encode_macs > 1e6
        assert taking_part.decode_macs(10) == 10 * taking_part.decode_macs(1) > 0


def test_refusals() -> None:
    pytest.importorskip("transformers")
    with pytest.raises(ValueError, match="multiples of 14, got 640x480"):
        depth_anything_contestant((480, 640), (480, 640), "torch", "float32", CPU)
    with pytest.raises(ValueError, match="cudagraphs need a CUDA device, got cpu"):
        spd_contestant("atto", "joint", (64, 96), "cudagraphs", "float32", CPU)
