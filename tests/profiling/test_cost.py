from __future__ import annotations

import math
from collections import defaultdict

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from spd.config import PRESETS, ModelConfig
from spd.model.spd import SPD
from spd.profiling.cost import PARTS, ModelCost, model_cost, plan_figure

GIGA = 1e9


def by_name(cost: ModelCost) -> dict[str, tuple[int, int]]:
    return {row.name: (row.parameters, row.macs) for row in cost.components}


@pytest.fixture(scope="module")
def tiny_at_target_size() -> ModelCost:
    return model_cost(ModelConfig.tiny(interaction="joint"), (480, 640), 256)


def test_parameters_of_tiny_are_those_of_the_design(tiny_at_target_size: ModelCost) -> None:
    parameters = {name: row[0] for name, row in by_name(tiny_at_target_size).items()}
    assert parameters == {
        "encoder": 27_864_960,
        "neck": 401_664,
        "L3 self-attention": 3_548_928,
        "L4 self-attention": 3_548_928,
        "value maps": 111_168,
        "L3/L4 keys and values": 442_368,
        "seed and position": 160_512,
        "deformable layers": 1_725_987,
        "L3 layers": 1_113_602,
        "L4 layers": 1_113_602,
        "canvas (shared)": 77_568,
        "depth head": 74_498,
    }
    assert tiny_at_target_size.parameters() == 40_183_785


@pytest.mark.parametrize(
    ("size", "encode", "decode"), [((480, 640), 35.99, 1.64), ((256, 320), 9.14, 1.40)], ids=["480x640", "256x320"]
)
def test_macs_of_tiny_are_those_of_the_design(size: tuple[int, int], encode: float, decode: float) -> None:
    cost = model_cost(ModelConfig.tiny(interaction="joint"), size, 256)
    assert cost.macs("encode") / GIGA == pytest.approx(encode, rel=0.01)
    assert cost.macs("decode") / GIGA == pytest.approx(decode, rel=0.01)
    assert cost.macs() == cost.macs("encode") + cost.macs("decode")


def test_attention_follows_the_closed_form(tiny_at_target_size: ModelCost) -> None:
    macs = {name: row[1] for name, row in by_name(tiny_at_target_size).items()}
    tokens3, tokens4, queries = 30 * 40, 15 * 20, 256

    def block(tokens: int, width: int = 384) -> int:
        """4 projections, a feed-forward layer of ratio 4, and two products of every token with every token."""
        return (4 + 8) * tokens * width**2 + 2 * tokens**2 * width

    assert macs["L3 self-attention"] == 2 * block(tokens3)
    assert macs["L4 self-attention"] == 2 * block(tokens4)

    def layer(tokens: int, width: int = 192) -> int:
        cross = 2 * queries * width**2 + 2 * queries * tokens * width
        canvas = queries * width**2 + queries * width
        between = 4 * queries * width**2 + 2 * queries**2 * width
        return cross + canvas + between + 8 * queries * width**2

    assert macs["L3 layers"] == 2 * layer(tokens3)
    assert macs["L4 layers"] == 2 * layer(tokens4)


def test_other_components_follow_their_closed_forms(tiny_at_target_size: ModelCost) -> None:
    macs = {name: row[1] for name, row in by_name(tiny_at_target_size).items()}
    cells = [120 * 160, 60 * 80, 30 * 40, 15 * 20]
    queries, width = 256, 192
    neck = sum(n * c * d for n, c, d in zip(cells, (96, 192, 384, 768), (64, 128, 192, 384), strict=True))
    assert macs["neck"] == neck
    assert macs["value maps"] == width * (cells[0] * 64 + cells[1] * 128 + cells[3] * 384)
    assert macs["L3/L4 keys and values"] == 4 * width * (cells[2] * 192 + cells[3] * 384)
    assert macs["seed and position"] == queries * width * (64 + 128 + 192 + 384 + 32 + 32)
    assert macs["canvas (shared)"] == 7 * (queries * width**2 + 2 * 9 * width * cells[2]) + queries * width**2
    # Its last layer is a weighted sum in float32, not a matrix product.
    assert macs["depth head"] == queries * width * 384


def test_sampling_is_counted_beside_the_totals(tiny_at_target_size: ModelCost) -> None:
    seed = 4 * 256 * (64 + 128 + 192 + 384)
    canvas = 8 * 4 * 256 * 192
    deformable = 3 * 4 * 256 * (6 * 4 * 4) * (192 // 6)
    assert tiny_at_target_size.sampling_macs == seed + canvas + deformable
    assert tiny_at_target_size.macs() == sum(row[1] for row in by_name(tiny_at_target_size).values())


# Modules of FlopCounterMode's own table → components; the encoder's and the neck's attention are inside theirs.
COUNTED_TOGETHER = {
    "SPD.encoder": ("encoder", "L3 self-attention"),
    "SPD.neck": ("neck", "L4 self-attention"),
    "SPD.memory_projections": ("value maps", "L3/L4 keys and values"),
    "SPD.decoder": ("seed and position", "deformable layers", "L3 layers", "L4 layers", "canvas (shared)"),
    "SPD.depth_head": ("depth head",),
}


@pytest.mark.parametrize(
    ("preset", "size", "num_queries"),
    [("atto", (64, 96), 1), ("atto", (77, 130), 70), ("nano", (33, 64), 5), ("lite0", (77, 130), 3)],
)
def test_pytorch_counts_the_same_on_a_model_that_runs(preset: str, size: tuple[int, int], num_queries: int) -> None:
    config = ModelConfig.preset(preset, interaction="joint")
    model = SPD(config).eval()
    # PyTorch's counter knows the products of the plain kernels, not those of the fused ones on the CPU.
    fused = {torch.ops.mkldnn._linear_pointwise: lambda rows, weight, *_, **__: 2 * math.prod(rows[:-1] + weight)}
    counter = FlopCounterMode(display=False, custom_mapping=fused)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        model(torch.rand(1, 3, *size), torch.rand(1, num_queries, 2))
    counted = {name: sum(flops.values()) // 2 for name, flops in counter.get_flop_counts().items()}
    ours = by_name(model_cost(config, size, num_queries))
    for module, components in COUNTED_TOGETHER.items():
        assert counted[module] == sum(ours[name][1] for name in components), module


@pytest.mark.parametrize("preset", PRESETS)
def test_every_parameter_is_counted_once(preset: str) -> None:
    config = ModelConfig.preset(preset, interaction="joint")
    with torch.device("meta"):
        model = SPD(config)
    expected: dict[str, int] = defaultdict(int)
    for name, parameter in model.named_parameters():
        (part,) = [part for part in PARTS if name.startswith(part.prefixes)]
        expected[part.name] += parameter.numel()
    cost = model_cost(config, (64, 96), 3)
    assert {row.name: row.parameters for row in cost.components} == expected
    assert cost.parameters() == sum(parameter.numel() for parameter in model.parameters())
    assert cost.parameters() == cost.parameters("encode") + cost.parameters("decode")


def test_atto_stays_small() -> None:
    assert model_cost(ModelConfig.atto(interaction="joint"), (256, 320), 256).parameters() <= 7_000_000


def test_a_parameter_of_no_component_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spd.profiling.cost.PARTS", PARTS[:-1])
    with pytest.raises(AssertionError, match="in no component"):
        model_cost(ModelConfig.atto(interaction="joint"), (64, 96), 3)


@pytest.mark.parametrize(
    ("size", "num_queries", "message"), [((0, 64), 1, r"size.*\(0, 64\)"), ((64, 96), 0, "num_queries.*got 0")]
)
def test_sizes_below_one_are_refused(size: tuple[int, int], num_queries: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model_cost(ModelConfig.atto(interaction="joint"), size, num_queries)


def test_plan_figures_belong_to_the_plan_s_sizes(tiny_at_target_size: ModelCost) -> None:
    tiny = ModelConfig.tiny(interaction="joint")
    figures = {row.name: plan_figure(tiny, (480, 640), 256, row.name) for row in tiny_at_target_size.components}
    for row in tiny_at_target_size.components:
        # The plan's encoder is 2.6 % larger: it counts the classifier.
        assert figures[row.name].parameters == pytest.approx(row.parameters, rel=0.03), row.name
    assert plan_figure(tiny, (480, 640), 256, "total").macs == 35_400_000_000
    assert plan_figure(tiny, (256, 320), 256, "total").macs == 10_200_000_000
    assert plan_figure(tiny, (480, 640), 64, "total").macs is None
    assert plan_figure(tiny, (480, 640), 64, "total").parameters == 40_901_000
    assert plan_figure(ModelConfig.atto(interaction="joint"), (480, 640), 256, "total") == (None, None, "")
    assert figures["neck"].note == "with L4 self-attention"


def test_anchors_cost_what_their_number_of_queries_costs() -> None:
    """80 anchors at 256x320: 80 queries' worth of decoder, without the last attention's product, FFN and head."""
    joint = model_cost(ModelConfig.tiny(interaction="joint"), (256, 320), num_queries=80)
    anchored = model_cost(ModelConfig.tiny(interaction="anchored"), (256, 320), num_queries=80)
    (row,) = [component for component in anchored.components if component.name == "anchors"]
    assert (row.stage, row.parameters) == ("encode", 0)
    assert anchored.parameters() == joint.parameters() == 40_183_785
    assert anchored.macs("encode") - row.macs == joint.macs("encode")
    width, hidden, head = 192, 4 * 192, 2 * 192
    per_anchor = (
        2 * width * hidden  # the last feed-forward
        + 2 * width * width
        + 2 * 80 * width  # the last attention's query and output, and its products
        + width * width
        + width * head  # the last read of the canvas, and the depth head, whose last sum is no product
    )
    # Anchors smooth the canvas; anchored queries write nothing and smooth nothing.
    assert row.macs == joint.macs("decode") - 80 * per_anchor
    writing = 7 * (80 * width * width + 2 * 9 * 16 * 20 * width)
    keys_and_values = 7 * 80 * 2 * width * width
    assert anchored.macs("decode") == joint.macs("decode") - writing - keys_and_values
