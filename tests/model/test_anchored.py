"""Anchored queries: answers depend on the image alone, and equal those of one masked pass over anchors and queries."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from spd.config import ModelConfig
from spd.coordinates import CANVAS_LEVEL, STRIDES, anchor_points, bilinear_reads, pixels_to_cells
from spd.model.attention import KeyValue, attend, split_heads
from spd.model.memory import ImageMemory
from spd.model.spatial_canvas import canvas_places, write_to_cells
from spd.model.spd import SPD
from spd.variant import Variant

SIZE = (75, 118)
"""Neither side divides by 32: three rows of four anchors."""


def _lively(config: ModelConfig, **changes: object) -> SPD:
    torch.manual_seed(0)
    model = SPD(ModelConfig(**{**vars(config), "interaction": "anchored", **changes})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model


@pytest.fixture(scope="module", params=[32, 16, 50])
def model(request: pytest.FixtureRequest, small: ModelConfig) -> SPD:
    return _lively(small, anchor_stride=request.param).double()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def _points(number: int, seed: int = 1, batch: int = 2) -> Tensor:
    fractions = torch.rand(batch, number, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return fractions * torch.tensor([SIZE[1], SIZE[0]], dtype=torch.float64) - 0.5


def _masked_pass(model: SPD, images: Tensor, query_points: Tensor) -> Tensor:
    """All rows x = [anchors; queries] through every layer at once: log depth (B, A + K).

    Every row reads image and canvas; only anchors write; every row attends to the anchors' rows alone.
    """
    config, decoder = model.config, model.decoder
    levels = model.neck(model.encoder(model.normalise(images, STRIDES[-1])))
    memory = model.memory_projections(levels, (images.shape[-2], images.shape[-1]))
    anchors = anchor_points(SIZE, config.anchor_stride).double().expand(len(images), -1, -1)
    points = torch.cat((anchors, query_points), dim=1)
    is_anchor = torch.arange(points.shape[1]).expand(len(images), -1) < anchors.shape[1]
    references = torch.stack([pixels_to_cells(points, stride, config.alignment) for stride in STRIDES], dim=2)
    at_points = [bilinear_reads(references[:, :, i], *level.shape[-2:]) for i, level in enumerate(levels)]
    hidden, position = decoder.seed(levels, at_points, points, memory.image_size)
    canvas, reads, cells = levels[CANVAS_LEVEL], at_points[CANVAS_LEVEL], references[:, :, CANVAS_LEVEL]
    places = canvas_places(cells, *canvas.shape[-2:], "bilinear", config.alignment, is_anchor)
    sources = [(references, memory.values)] * config.num_deformable_layers
    keys, values = (*memory.l3_keys, *memory.l4_keys), (*memory.l3_values, *memory.l4_values)
    sources += [(KeyValue(*of_layer),) for of_layer in zip(keys, values, strict=True)]
    for layer, source in zip(decoder.layers(), sources, strict=True):
        hidden = hidden + layer.cross_attention(layer.cross_norm(hidden), *source)
        hidden = layer.canvas_access.read(hidden, canvas, reads)
        canvas = decoder.canvas.write(canvas, places, layer.canvas_access.to_write(hidden))
        attention, normed = layer.query_attention, layer.query_norm(hidden)
        query, key = (
            split_heads(project(normed + position), attention.num_heads) for project in (attention.query, attention.key)
        )
        value = split_heads(attention.value(normed), attention.num_heads)
        hidden = hidden + attention.output(attend(query, key, value, is_anchor))
        hidden = hidden + layer.ffn(layer.ffn_norm(hidden))
    return model.depth_head(decoder.canvas.read_final(canvas, reads, hidden))


def test_encode_then_decode_is_one_masked_pass(model: SPD, images: Tensor):
    points = _points(9)
    with torch.no_grad():
        expected = _masked_pass(model, images, points)
        memory, anchors = model.encode_with_anchors(images)
        assert anchors is not None
        torch.testing.assert_close(anchors, expected[:, :-9], atol=1e-10, rtol=1e-10)
        torch.testing.assert_close(model.decode_log_depth(memory, points), expected[:, -9:], atol=1e-10, rtol=1e-10)
        torch.testing.assert_close(model(images, points).log(), expected[:, -9:], atol=1e-10, rtol=1e-10)


def test_a_query_at_an_anchor_is_the_anchor(model: SPD, images: Tensor):
    grid = anchor_points(SIZE, model.config.anchor_stride)
    with torch.no_grad():
        memory, anchors = model.encode_with_anchors(images)
        asked = model.decode_log_depth(memory, grid.double().expand(2, -1, -1))
    torch.testing.assert_close(asked, anchors, atol=1e-10, rtol=1e-10)


def test_memory_holds_the_anchors_and_no_more_than_answers_need(model: SPD, images: Tensor):
    with torch.no_grad():
        memory = model.encode(images)
        with_anchors, _ = model.encode_with_anchors(images)
    count = len(anchor_points(SIZE, model.config.anchor_stride))
    assert {tuple(canvas.shape) for canvas in memory.canvases} == {(2, 24, 6, 8)}
    assert torch.equal(memory.canvases[0], memory.levels[CANVAS_LEVEL])
    assert len(memory.canvases) == 8
    assert [tuple(keys.shape) for keys in memory.anchor_keys] == [(2, 3, count, 8)] * 7
    assert len(memory.anchor_values) == 7
    for ours, theirs in zip(
        memory.canvases + memory.anchor_keys, with_anchors.canvases + with_anchors.anchor_keys, strict=True
    ):
        assert torch.equal(ours, theirs)


def test_a_joint_memory_holds_no_anchors(lively: SPD):
    with torch.no_grad():
        memory, anchors = lively.encode_with_anchors(torch.rand(1, 3, 64, 96).double())
    assert (memory.canvases, memory.anchor_keys, memory.anchor_values, anchors) == ((), (), (), None)


def test_a_batch_of_two_is_two_singles(model: SPD, images: Tensor):
    points = _points(5)
    with torch.no_grad():
        together = model(images, points)
        singles = torch.cat([model(images[i : i + 1], points[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(together, singles, atol=1e-10, rtol=1e-10)


def test_answers_depend_on_the_image_alone_in_float32(small: ModelConfig):
    model = _lively(small)
    points = _points(4096, batch=1).float()
    order = torch.randperm(4096, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        memory = model.encode(torch.rand(1, 3, *SIZE))
        together = model.decode(memory, points)
        shuffled = model.decode(memory, points[:, order])
        chunks = torch.cat([model.decode(memory, points[:, start : start + 700]) for start in range(0, 4096, 700)], 1)
        alone = torch.cat([model.decode(memory, points[:, k : k + 1]) for k in range(0, 4096, 512)], 1)
    torch.testing.assert_close(shuffled, together[:, order], rtol=1e-5, atol=0)
    torch.testing.assert_close(chunks, together, rtol=1e-5, atol=0)
    torch.testing.assert_close(alone, together[:, ::512], rtol=1e-5, atol=0)


def test_a_loss_on_queries_reaches_every_weight(small: ModelConfig):
    """Nothing is detached, so what anchors write, smooth and offer is taught by what queries make of it."""
    model = _lively(small).train()
    model(torch.rand(1, 3, 64, 96), torch.rand(1, 6, 2) * 60).log().sum().backward()
    without = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert without == []


def test_both_modes_have_the_same_weights(small: ModelConfig, lively: SPD):
    anchored = _lively(small)
    assert anchored.state_dict().keys() == lively.state_dict().keys()
    anchored.load_state_dict(lively.state_dict())


@pytest.mark.parametrize("stride", [16, 32, 48])
def test_a_flipped_image_gives_flipped_answers(small: ModelConfig, stride: int):
    """With everything else indifferent to left and right, anchors and their writes must be too."""
    size = (64, 96)
    model = _lively(small, anchor_stride=stride).double()
    _make_indifferent(model)
    generator = torch.Generator().manual_seed(0)
    levels = tuple(
        torch.randn(1, channels, size[0] // side, size[1] // side, generator=generator, dtype=torch.float64)
        for channels, side in zip(model.config.neck_channels, STRIDES, strict=True)
    )
    points = torch.rand(1, 20, 2, generator=generator, dtype=torch.float64) * torch.tensor([size[1], size[0]]) - 0.5
    mirrored = torch.stack((size[1] - 1 - points[..., 0], points[..., 1]), dim=-1)

    def answers(levels: tuple[Tensor, ...], points: Tensor) -> Tensor:
        memory: ImageMemory = model.memory_projections(levels, size)
        memory, _ = model.decoder.place_anchors(memory, finish=False)
        return model.decode_log_depth(memory, points)

    with torch.no_grad():
        expected = answers(levels, points)
        flipped = answers(tuple(level.flip(-1) for level in levels), mirrored)
    torch.testing.assert_close(flipped, expected, atol=1e-10, rtol=1e-10)
    assert expected.std() > 1e-3


def _make_indifferent(model: SPD) -> None:
    """Take from the decoder all that knows left from right: the Fourier code, the offsets, skew kernels."""
    seed, smooth = model.decoder.seed, model.decoder.canvas.smooth
    with torch.no_grad():
        seed.project.weight[:, sum(model.config.neck_channels) :] = 0
        seed.position.weight.zero_()
        for layer in model.decoder.deformable_layers:
            layer.cross_attention.sampling_offsets.weight.zero_()
            layer.cross_attention.sampling_offsets.bias.zero_()
        for convolution in (smooth.first, smooth.second):
            convolution.weight.copy_((convolution.weight + convolution.weight.flip(-1)) / 2)


def test_the_nearest_cell_would_favour_a_side(small: ModelConfig):
    """Why anchors write bilinearly: one between two cells belongs to neither."""
    between = torch.tensor([[[1.5, 0.0]]], dtype=torch.float64)
    nearest = canvas_places(between, 2, 4, "mean", "center")
    assert nearest.rows.tolist() == [[[2]]]
    both = canvas_places(between, 2, 4, "bilinear", "center")
    written = write_to_cells(torch.zeros(1, 1, 2, 4).double(), both, torch.ones(1, 1, 1).double())
    assert written[0, 0, 0].tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("part", ["canvas", "query_attention"])
def test_anchors_reach_queries_by_the_part_that_is_left(small: ModelConfig, images: Tensor, part: str):
    model = _lively(small, variant=Variant(without=(part,))).double()
    points = _points(5)
    with torch.no_grad():
        before = model(images, points)
        without_anchors = copy.deepcopy(model)
        layer = without_anchors.decoder.layers()[0]
        weights = layer.query_attention.value if part == "canvas" else without_anchors.decoder.canvas.write_projection
        weights.weight.zero_()
        assert not torch.allclose(without_anchors(images, points), before, rtol=1e-6)


def test_without_either_there_is_nothing_to_anchor():
    with pytest.raises(ValueError, match="anchored queries need the canvas or query_attention"):
        ModelConfig(interaction="anchored", variant=Variant(without=("canvas", "query_attention")))
