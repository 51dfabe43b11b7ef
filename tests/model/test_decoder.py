"""The order of a layer, the stack of seven, and where each level is read and the canvas is written."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spd.config import ModelConfig
from spd.coordinates import CANVAS_LEVEL, STRIDES, bilinear_reads
from spd.model.attention import Attention, KeyValue
from spd.model.decoder import DecoderLayer
from spd.model.deformable_attention import DeformableAttention
from spd.model.memory import ImageMemory
from spd.model.spatial_canvas import SpatialCanvas, shared_places
from spd.model.spd import SPD
from spd.model.value_table import ValueTable

SIZE = (75, 118)
"""Neither side divides by 32; padded it is 96×128."""
PADDED = (96, 128)


@contextmanager
def _inputs_of(*modules: nn.Module) -> Iterator[list[tuple]]:
    """The positional arguments of every call of the modules meanwhile."""
    seen: list[tuple] = []
    handles = [module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs)) for module in modules]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _layers(model: SPD) -> list[DecoderLayer]:
    decoder = model.decoder
    return [*decoder.deformable_layers, *decoder.l3_layers, *decoder.l4_layers]  # type: ignore[list-item]


def test_seven_layers_of_one_class_in_the_plans_order(lively: SPD):
    layers = _layers(lively)
    assert [type(layer) for layer in layers] == [DecoderLayer] * 7
    assert [type(layer.cross_attention) for layer in layers] == [DeformableAttention] * 3 + [Attention] * 4
    image, points = torch.rand(1, 3, 64, 96).double(), torch.rand(1, 5, 2).double() * 60
    order: list[int] = []
    handles = [
        layer.register_forward_pre_hook(lambda _, __, number=number: order.append(number))
        for number, layer in enumerate(layers)
    ]
    with torch.no_grad():
        lively(image, points)
    for handle in handles:
        handle.remove()
    assert order == list(range(7))


def test_global_layers_read_the_keys_and_values_of_their_own_level(lively: SPD):
    with torch.no_grad():
        memory = lively.encode(torch.rand(1, 3, 64, 96).double())
        attentions = [layer.cross_attention for layer in _layers(lively)[3:]]
        with _inputs_of(*attentions) as seen:
            lively.decode(memory, torch.rand(1, 5, 2).double() * 60)
    for (_, (keys, values)), expected in zip(
        seen,
        zip((*memory.l3_keys, *memory.l4_keys), (*memory.l3_values, *memory.l4_values), strict=True),
        strict=True,
    ):
        assert keys is expected[0]
        assert values is expected[1]


def test_a_layer_is_cross_then_canvas_then_queries_then_feed_forward():
    torch.manual_seed(0)
    config = ModelConfig(embed_dim=12, neck_channels=(4, 8, 12, 16), neck_heads=4, num_heads=3)
    layer = DecoderLayer(Attention(12, 3, 0.0), config).double().eval()
    shared = SpatialCanvas(12).double()
    with torch.no_grad():
        for parameter in (*layer.parameters(), *shared.parameters()):
            parameter += 0.2 * torch.randn_like(parameter)
    hidden, position = torch.randn(2, 2, 5, 12, dtype=torch.float64)
    keys, values = torch.randn(2, 2, 3, 7, 4, dtype=torch.float64)
    canvas = torch.randn(2, 12, 3, 4, dtype=torch.float64)
    reads = bilinear_reads(torch.rand(2, 5, 2, dtype=torch.float64) * 3, 3, 4)
    keep = torch.tensor([[True] * 5, [True, True, False, False, True]])
    cells = shared_places(torch.randint(0, 12, (2, 5, 1)), torch.ones(2, 5, 1).double(), 12, "mean", keep)

    result, after = layer(hidden, (KeyValue(keys, values),), canvas, shared, reads, cells, position, keep)

    h = hidden + layer.cross_attention(layer.cross_norm(hidden), KeyValue(keys, values))
    h = layer.canvas_access.read(h, canvas, reads)
    expected_canvas = shared.write(canvas, cells, h)
    normed = layer.query_norm(h)
    key_value = layer.query_attention.key_value(normed, position)
    h = h + layer.query_attention(normed + position, key_value, keep)
    h = h + layer.ffn(layer.ffn_norm(h))
    torch.testing.assert_close(result, h)
    torch.testing.assert_close(after, expected_canvas)
    assert not torch.allclose(after, canvas, atol=1e-3)


def test_the_canvas_starts_as_l3_and_changes_in_every_layer(lively: SPD):
    with torch.no_grad():
        memory = lively.encode(torch.rand(1, 3, 64, 96).double())
        with _inputs_of(*_layers(lively)) as seen:
            lively.decode(memory, torch.rand(1, 9, 2).double() * 60)
    canvases = [inputs[2] for inputs in seen]
    assert torch.equal(canvases[0], memory.levels[CANVAS_LEVEL])
    for before, after in itertools.pairwise(canvases):
        assert (after - before).abs().max() > 1e-3


def test_the_last_read_sees_the_canvas_of_the_last_layer(lively: SPD):
    """The seventh layer's writes must reach the answers."""
    image, points = torch.rand(1, 3, 64, 96).double(), torch.rand(1, 9, 2).double() * 60
    results = []
    handle = _layers(lively)[-1].register_forward_hook(lambda _, __, output: results.append(output))
    with torch.no_grad(), _inputs_of(lively.depth_head) as seen:
        lively(image, points)
    handle.remove()
    hidden, canvas = results[0]
    reads = bilinear_reads((points + 0.5) / 16 - 0.5, *canvas.shape[-2:])
    expected = lively.decoder.canvas.read_final(canvas, reads, hidden)
    torch.testing.assert_close(seen[0][0], expected)


def test_canvas_and_locations_stay_float32_under_autocast(atto: SPD):
    layers = _layers(atto)
    with (
        torch.no_grad(),
        torch.autocast("cpu", torch.bfloat16),
        _inputs_of(*layers) as seen,
        _inputs_of(*(layer.canvas_access.norm for layer in layers)) as states,
    ):
        atto(torch.rand(1, 3, 64, 96), torch.rand(1, 5, 2) * 60)
    assert len(seen) == 7
    assert states
    for inputs in seen:
        canvas, canvas_reads = inputs[2], inputs[4]
        assert canvas.dtype == torch.float32
        assert canvas_reads.weights.dtype == torch.float32


class TestWhereLevelsAreRead:
    """``docs/coordinates.md``: every level is replaced by a map whose cells hold the pixel that they stand for.

    A read at pixel (u, v) then gives (u, v), up to the border, where it stops at the last cell.
    """

    @pytest.fixture(params=["center", "corner"])
    def model(self, request: pytest.FixtureRequest, lively: SPD, lively_corner: SPD) -> SPD:
        model = {"center": lively, "corner": lively_corner}[request.param]
        assert model.config.alignment == request.param
        return model

    @pytest.fixture
    def points(self) -> Tensor:
        u = [-0.5, 0.0, 1.25, 15.4, 15.5, 16.0, 58.75, 101.0, 117.0, 117.49]
        v = [-0.5, 74.49, 3.5, 7.5, 7.51, 15.99, 31.75, 40.0, 74.0, 0.0]
        return torch.tensor([list(zip(u, v, strict=True))], dtype=torch.float64)

    def _pixel_of_cell(self, model: SPD, stride: int) -> Callable[[np.ndarray], np.ndarray]:
        first = (stride - 1) / 2 if model.config.alignment == "center" else 0.0
        return lambda cell: stride * cell + first

    def _expected(self, model: SPD, points: Tensor, stride: int) -> np.ndarray:
        """The asked pixels, held between those that the first and the last cell stand for."""
        pixel = self._pixel_of_cell(model, stride)
        last = np.array([PADDED[1] // stride - 1, PADDED[0] // stride - 1])
        return np.clip(points[0].numpy(), pixel(np.zeros(2)), pixel(last))

    def _coordinate_map(self, model: SPD, stride: int, channels: int) -> Tensor:
        """u in the even channels, v in the odd ones."""
        pixel = self._pixel_of_cell(model, stride)
        u, v = np.meshgrid(pixel(np.arange(PADDED[1] // stride)), pixel(np.arange(PADDED[0] // stride)))
        return torch.from_numpy(np.stack([u, v] * (channels // 2)))[None]

    def _memory(self, model: SPD) -> ImageMemory:
        config = model.config
        with torch.no_grad():
            memory = model.encode(torch.zeros(1, 3, *SIZE, dtype=torch.float64))
        level1, level2, level3, level4 = (
            self._coordinate_map(model, stride, channels)
            for stride, channels in zip(STRIDES, config.neck_channels, strict=True)
        )
        values = ValueTable.of([self._coordinate_map(model, stride, config.embed_dim) for stride in STRIDES])
        return memory._replace(levels=(level1, level2, level3, level4), values=values)

    def test_seed(self, model: SPD, points: Tensor):
        with torch.no_grad(), _inputs_of(model.decoder.seed.project) as seen:
            model.decode(self._memory(model), points)
        channels = np.cumsum((0, *model.config.neck_channels))
        for level, stride in enumerate(STRIDES):
            read = seen[0][0][0, :, channels[level] : channels[level] + 2]
            np.testing.assert_allclose(read.numpy(), self._expected(model, points, stride), atol=1e-9)

    def test_deformable_attention_without_offsets(self, model: SPD, points: Tensor):
        attention = _layers(model)[0].cross_attention
        assert isinstance(attention, DeformableAttention)
        heads, levels, count = attention.shape
        saved = {name: weights.clone() for name, weights in attention.state_dict().items()}
        for level, stride in enumerate(STRIDES):
            with torch.no_grad(), _inputs_of(attention.output) as seen:
                for parameter in (*attention.sampling_offsets.parameters(), *attention.attention_weights.parameters()):
                    parameter.zero_()
                # All of a head's weight on this level.
                attention.attention_weights.bias.view(heads, levels, count)[:, level] = 1000.0
                model.decode(self._memory(model), points)
                attention.load_state_dict(saved)
            read = seen[0][0][0].unflatten(-1, (-1, 2))
            expected = self._expected(model, points, stride)[:, None].repeat(read.shape[1], axis=1)
            np.testing.assert_allclose(read.numpy(), expected, atol=1e-9)

    def test_canvas_read(self, model: SPD, points: Tensor):
        first = _layers(model)[0]
        with torch.no_grad(), _inputs_of(first.canvas_access.read_projection) as seen:
            model.decode(self._memory(model), points)
        expected = self._expected(model, points, STRIDES[CANVAS_LEVEL])
        np.testing.assert_allclose(seen[0][0][0, :, :2].numpy(), expected, atol=1e-9)

    def test_canvas_write_goes_to_the_cell_that_covers_the_pixel(self, model: SPD, points: Tensor):
        with torch.no_grad(), _inputs_of(*_layers(model)) as seen:
            model.decode(self._memory(model), points)
        shift = 0.5 if model.config.alignment == "center" else 0.0
        expected = [
            min(max(math.floor((v + shift) / 16), 0), 5) * 8 + min(max(math.floor((u + shift) / 16), 0), 7)
            for u, v in points[0].tolist()
        ]
        for inputs in seen:
            assert inputs[5].rows[0, :, 0].tolist() == expected
