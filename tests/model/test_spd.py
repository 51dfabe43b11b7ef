"""The assembled network: its contracts (batching, masks, order, sizes, precision, state) and its parameters."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._pytree import tree_leaves

from spd.config import PRESETS, ModelConfig
from spd.model.depth_head import DenseAuxiliaryHeads
from spd.model.memory import ImageMemory
from spd.model.spd import SPD

SIZES = [(64, 96), (75, 118), (33, 130), (96, 32)]


def _images(batch: int, height: int, width: int, seed: int = 0) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _points(batch: int, number: int, height: int, width: int, seed: int = 1) -> Tensor:
    fractions = torch.rand(batch, number, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return fractions * torch.tensor([width, height], dtype=torch.float64) - 0.5


def _assert_same(result: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(result, expected, atol=1e-9, rtol=1e-9)


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


class TestParameters:
    def test_tiny_has_the_integers_of_the_design(self):
        model = SPD(ModelConfig.tiny())
        decoder = model.decoder
        components = {
            "encoder": (_count(model.encoder.backbone), 27_864_960),
            "L3 self-attention": (_count(model.encoder.self_attention), 3_548_928),
            "neck": (_count(model.neck.projections), 401_664),
            "L4 self-attention": (_count(model.neck.self_attention), 3_548_928),
            "value maps": (_count(model.memory_projections.value_maps), 111_168),
            "keys and values": (_count(model.memory_projections.l3) + _count(model.memory_projections.l4), 442_368),
            "seed and position": (_count(decoder.seed), 160_512),
            "deformable layers": (_count(decoder.deformable_layers), 1_725_987),
            "L3 layers": (_count(decoder.l3_layers), 1_113_602),
            "L4 layers": (_count(decoder.l4_layers), 1_113_602),
            "canvas": (_count(decoder.canvas), 77_568),
            "head": (_count(model.depth_head), 74_498),
        }
        for name, (counted, expected) in components.items():
            assert counted == expected, name
        assert _count(model) == sum(counted for counted, _ in components.values()) == 40_183_785

    @pytest.mark.parametrize(("preset", "least", "most"), [("plan_v14", 40_183_785, 40_183_785), ("atto", 0, 7e6)])
    def test_other_presets_keep_to_their_size(self, preset: str, least: int, most: int):
        with torch.device("meta"):
            assert least <= _count(SPD(ModelConfig.preset(preset))) <= most

    @pytest.mark.parametrize("preset", PRESETS)
    def test_every_preset_builds_with_the_plans_seven_layers(self, preset: str):
        with torch.device("meta"):
            model = SPD(ModelConfig.preset(preset))
        assert model.config.num_layers == 7
        assert model.config.embed_dim // model.config.num_heads == 32

    def test_every_weight_is_saved_and_no_constant(self, lively: SPD):
        assert set(lively.state_dict()) == {name for name, _ in lively.named_parameters()}


class TestShapes:
    def test_answers_are_metres_for_every_point(self, atto: SPD):
        with torch.no_grad():
            depth = atto(torch.rand(2, 3, 64, 96), torch.rand(2, 5, 2) * 60)
        assert depth.shape == (2, 5)
        assert depth.dtype == torch.float32
        assert (depth > 0).all()

    def test_memory_of_an_image_that_is_padded(self, lively: SPD):
        with torch.no_grad():
            memory = lively.encode(_images(2, 75, 118))
        assert isinstance(memory, ImageMemory)
        assert memory.image_size == (75, 118)
        assert [tuple(level.shape) for level in memory.levels] == [
            (2, 8, 24, 32),
            (2, 16, 12, 16),
            (2, 24, 6, 8),
            (2, 32, 3, 4),
        ]
        assert [tuple(value.shape[1:]) for value in memory.values.maps()] == [
            (24, 24, 32),
            (24, 12, 16),
            (24, 6, 8),
            (24, 3, 4),
        ]
        assert {tuple(tokens.shape) for tokens in (*memory.l3_keys, *memory.l3_values)} == {(2, 3, 48, 8)}
        assert {tuple(tokens.shape) for tokens in (*memory.l4_keys, *memory.l4_values)} == {(2, 3, 12, 8)}

    def test_log_depth_is_the_logarithm(self, lively: SPD):
        with torch.no_grad():
            memory, points = lively.encode(_images(1, 64, 96)), _points(1, 5, 64, 96)
            _assert_same(lively.decode(memory, points), lively.decode_log_depth(memory, points).exp())


class TestContracts:
    @pytest.fixture(params=["center", "corner"])
    def model(self, request: pytest.FixtureRequest, lively: SPD, lively_corner: SPD) -> SPD:
        return lively if request.param == "center" else lively_corner

    @pytest.mark.parametrize("size", SIZES)
    def test_encode_then_decode_is_forward(self, model: SPD, size: tuple[int, int]):
        images, points = _images(1, *size), _points(1, 7, *size)
        with torch.no_grad():
            depth = model(images, points)
            assert torch.equal(depth, model.decode(model.encode(images), points))
        assert depth.std() > 1e-3, "the answers must differ for this to mean anything"

    @pytest.mark.parametrize("size", SIZES)
    def test_a_batch_of_two_is_two_singles(self, model: SPD, size: tuple[int, int]):
        images, points = _images(2, *size), _points(2, 7, *size)
        with torch.no_grad():
            together = model(images, points)
            for index in range(2):
                alone = model(images[index : index + 1], points[index : index + 1])
                _assert_same(together[index : index + 1], alone)
        assert (together[0] - together[1]).abs().max() > 1e-3

    def test_order_of_the_points_is_the_order_of_the_answers(self, model: SPD):
        images, points = _images(1, 75, 118), _points(1, 31, 75, 118)
        order = torch.randperm(31, generator=torch.Generator().manual_seed(3))
        with torch.no_grad():
            memory = model.encode(images)
            _assert_same(model.decode(memory, points[:, order]), model.decode(memory, points)[:, order])

    @pytest.mark.parametrize("garbage", [-1e4, 0.0, 40.0, 1e6])
    def test_padded_with_a_mask_is_unpadded(self, model: SPD, garbage: float):
        """The padding lies between the points, once outside the image and once in a cell that others write to."""
        images, points = _images(2, 75, 118), _points(2, 6, 75, 118)
        padded = torch.full((2, 9, 2), garbage, dtype=torch.float64)
        places = [0, 2, 3, 5, 6, 8]
        padded[:, places] = points
        keep = torch.zeros(2, 9, dtype=torch.bool)
        keep[:, places] = True
        with torch.no_grad():
            memory = model.encode(images)
            expected = model.decode(memory, points)
            _assert_same(model.decode(memory, padded, keep)[:, places], expected)
            unmasked = model.decode(memory, padded)[:, places]
        assert (unmasked - expected).abs().max() > 1e-6, "without the mask the padding must matter"

    def test_rows_of_a_batch_may_have_different_numbers_of_points(self, lively: SPD):
        images, points = _images(2, 64, 96), _points(2, 6, 64, 96)
        keep = torch.tensor([[True] * 6, [True] * 2 + [False] * 4])
        with torch.no_grad():
            together = lively(images, points, keep)
            _assert_same(together[:1], lively(images[:1], points[:1]))
            _assert_same(together[1:, :2], lively(images[1:], points[1:, :2]))

    def test_nothing_but_padding_is_finite(self, lively: SPD):
        with torch.no_grad():
            depth = lively(_images(1, 64, 96), _points(1, 3, 64, 96), torch.zeros(1, 3, dtype=torch.bool))
        assert depth.isfinite().all()

    def test_one_point(self, model: SPD):
        with torch.no_grad():
            memory = model.encode(_images(1, 64, 96))
            near, far = (model.decode(memory, torch.tensor([[point]]).double()) for point in ((5.0, 6.0), (80.0, 50.0)))
        assert near.shape == (1, 1)
        assert (near - far).abs().item() > 1e-4

    @settings(max_examples=15, deadline=None)
    @given(height=st.integers(1, 70), width=st.integers(1, 100), queries=st.integers(1, 9), seed=st.integers(0, 99))
    def test_padding_is_replication(self, lively: SPD, height: int, width: int, queries: int, seed: int):
        """Equals the image padded by hand, asked at the same points with the code of the unpadded size."""
        images, points = _images(1, height, width, seed), _points(1, queries, height, width, seed)
        by_hand = np.pad(images.numpy(), ((0, 0), (0, 0), (0, -height % 32), (0, -width % 32)), mode="edge")
        with torch.no_grad():
            memory = lively.encode(torch.from_numpy(by_hand))
            expected = lively.decode(memory._replace(image_size=(height, width)), points)
            _assert_same(lively(images, points), expected)

    def test_images_are_normalised_inside(self, lively: SPD):
        images = _images(1, 64, 96)
        mean = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64)[:, None, None]
        deviation = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64)[:, None, None]
        seen: list[Tensor] = []
        handle = lively.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        with torch.no_grad():
            lively.encode(images)
        handle.remove()
        # The constants are kept in float32.
        torch.testing.assert_close(seen[0], (images - mean) / deviation, atol=1e-6, rtol=0)


class TestState:
    def test_nothing_about_an_image_stays_on_the_module(self, lively: SPD):
        model = copy.deepcopy(lively)

        def attributes() -> dict[str, dict[str, int]]:
            inner = ("_parameters", "_buffers", "_modules")
            return {
                name: {
                    **{key: id(value) for key, value in vars(module).items()},
                    **{f"{group}.{k}": id(v) for group in inner for k, v in vars(module)[group].items()},
                }
                for name, module in model.named_modules()
            }

        # The first call may let PyTorch settle caches of its own.
        with torch.no_grad():
            model(_images(1, 64, 96), _points(1, 3, 64, 96))
            before, weights = attributes(), {k: v.clone() for k, v in model.state_dict().items()}
            model(_images(2, 75, 118), _points(2, 5, 75, 118))
        assert attributes() == before
        assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())

    def test_decoding_leaves_the_memory_as_it_was(self, lively: SPD):
        with torch.no_grad():
            memory = lively.encode(_images(1, 64, 96))
            before = copy.deepcopy(memory)
            first = lively.decode(memory, _points(1, 50, 64, 96))
            lively.decode(memory, _points(1, 20, 64, 96, seed=5))
            assert torch.equal(lively.decode(memory, _points(1, 50, 64, 96)), first)
        assert memory.image_size == before.image_size
        for now, then in zip(tree_leaves(memory), tree_leaves(before), strict=True):
            assert torch.equal(now, then) if isinstance(now, Tensor) else now == then

    def test_the_same_input_gives_the_same_bits(self, atto: SPD):
        images, points = torch.rand(2, 3, 75, 118), torch.rand(2, 40, 2) * 70
        with torch.no_grad():
            assert torch.equal(atto(images, points), atto(images, points))

    def test_the_same_seed_gives_the_same_model(self, small: ModelConfig):
        def weights() -> dict[str, Tensor]:
            torch.manual_seed(7)
            return SPD(small).state_dict()

        first, second = weights(), weights()
        assert all(torch.equal(first[name], second[name]) for name in first)


class TestGradients:
    def _backward(self, model: SPD, auxiliary: DenseAuxiliaryHeads) -> None:
        """The two losses of training: on the queries and densely on L2 and L3."""
        memory = model.encode(_images(2, 64, 96).to(next(model.parameters()).dtype))
        points = _points(2, 40, 64, 96).to(next(model.parameters()).dtype)
        log_depth2, log_depth3 = auxiliary(memory.levels)
        dense = log_depth2.square().mean() + log_depth3.square().mean()
        (model.decode_log_depth(memory, points).square().mean() + dense).backward()

    def test_every_parameter_is_in_the_graph(self, small: ModelConfig):
        """As initialised and in training mode: DDP waits for each of them."""
        torch.manual_seed(0)
        model, auxiliary = SPD(small).train(), DenseAuxiliaryHeads(16, 24)
        self._backward(model, auxiliary)
        named = (*model.named_parameters(), *auxiliary.named_parameters())
        assert [name for name, parameter in named if parameter.grad is None] == []

    def test_the_queries_alone_reach_every_parameter_of_the_model(self, small: ModelConfig):
        torch.manual_seed(0)
        model = SPD(small).train()
        model(_images(2, 64, 96).float(), _points(2, 40, 64, 96).float()).log().mean().backward()
        assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []

    def test_every_parameter_matters(self, lively: SPD):
        """With noise on all weights, no gradient is zero, but for those of key biases, which softmax cancels."""
        model, auxiliary = copy.deepcopy(lively), DenseAuxiliaryHeads(16, 24).double()
        self._backward(model, auxiliary)
        still = []
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            if parameter.grad.abs().max() < 1e-12 and not name.endswith(".key.bias"):
                still.append(name)
        assert still == []


def test_bfloat16_autocast_stays_near_float32(atto: SPD):
    """10,000 points; a location rounded to bfloat16 would be off by more than half a cell on L1."""
    size = (64, 96)
    generator = torch.Generator().manual_seed(5)
    images = torch.nn.functional.interpolate(torch.rand(10, 3, 10, 16, generator=generator), size, mode="bicubic")
    images = (images + 0.1 * torch.rand(10, 3, *size, generator=generator)).clamp(0, 1)
    points = torch.rand(10, 1000, 2, generator=generator) * torch.tensor([size[1], size[0]]) - 0.5
    with torch.no_grad():
        exact = atto(images, points)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = atto(images, points)
    assert rounded.dtype == torch.float32
    assert exact.std() > 0.05, "the answers must differ for this to mean anything"
    difference = ((rounded - exact).abs() / exact).flatten()
    assert difference.median() < 0.005
    assert difference.quantile(0.99) < 0.02
    assert rounded.unique().numel() > 9000, "log depth itself must not be rounded to bfloat16"
