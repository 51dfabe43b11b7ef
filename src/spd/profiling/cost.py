"""Parameters and multiply-accumulates (MACs) of the model by component, counted from its modules.

The model is built on PyTorch's meta device, which has shapes and no values, and run there once: every linear layer,
convolution and attention product is counted with the sizes that flow through it, for a batch of one image. What is
done element by element (norms, activations, softmax, weighted sums) is not counted, as is usual. Bilinear sampling is
counted beside the totals, not in them: it is no matrix product, and its cost is in reaching memory.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from spd.config import ModelConfig
from spd.model.spd import SPD

Stage = Literal["encode", "decode"]


class Part(NamedTuple):
    """Which modules make up a component; every parameter's name starts with exactly one of all prefixes."""

    name: str
    stage: Stage
    prefixes: tuple[str, ...]


PARTS = (
    Part("encoder", "encode", ("encoder.backbone.",)),
    Part("L3 self-attention", "encode", ("encoder.self_attention.",)),
    Part("neck", "encode", ("neck.projections.",)),
    Part("L4 self-attention", "encode", ("neck.self_attention.",)),
    Part("value maps", "encode", ("memory_projections.value_maps.",)),
    Part("L3/L4 keys and values", "encode", ("memory_projections.l3.", "memory_projections.l4.")),
    Part("seed and position", "decode", ("decoder.seed.",)),
    Part("deformable layers", "decode", ("decoder.deformable_layers.",)),
    Part("L3 layers", "decode", ("decoder.l3_layers.",)),
    Part("L4 layers", "decode", ("decoder.l4_layers.",)),
    Part("canvas (shared)", "decode", ("decoder.canvas.",)),
    Part("scale head", "decode", ("scale_head.",)),
    Part("depth head", "decode", ("depth_head.",)),
)
"""The components in the order in which an image meets them."""

ANCHORS = "anchors"
"""A row of anchored models: what the decoder's modules do for the anchors while the image is encoded. They have no
parameters of their own."""


_DECODER_PARTS = frozenset(part.name for part in PARTS if part.stage == "decode")


class PlanFigure(NamedTuple):
    """What the plan says of a component; None where it says nothing."""

    parameters: int | None = None
    macs: int | None = None
    note: str = ""
    """What the plan's MACs cover where that is not just this component."""


PLAN_PARAMETERS: Mapping[str, int] = {
    "encoder": 28_600_000,
    "L3 self-attention": 3_542_000,
    "neck": 401_000,
    "L4 self-attention": 3_542_000,
    "value maps": 111_000,
    "L3/L4 keys and values": 444_000,
    "seed and position": 160_000,
    "deformable layers": 1_722_000,
    "L3 layers": 1_112_000,
    "L4 layers": 1_112_000,
    "canvas (shared)": 78_000,
    "depth head": 74_000,
    "total": 40_901_000,
}
"""Plan v14, section 9, parameter table. Its encoder, and so its total, includes timm's classifier."""

PLAN_MACS: Mapping[tuple[int, int, int], Mapping[str, int]] = {
    (256, 320, 256): {
        "encoder": 7_300_000_000,
        "L3 self-attention": 1_100_000_000,
        "neck": 300_000_000,
        "value maps": 200_000_000,
        "encode": 8_900_000_000,
        "deformable layers": 600_000_000,
        "L3 layers": 350_000_000,
        "L4 layers": 350_000_000,
        "canvas (shared)": 4_000_000,
        "depth head": 20_000_000,
        "decode": 1_300_000_000,
        "total": 10_200_000_000,
    },
    (480, 640, 256): {
        "encoder": 27_500_000_000,
        "L3 self-attention": 4_200_000_000,
        "neck": 1_500_000_000,
        "value maps": 500_000_000,
        "encode": 33_700_000_000,
        "deformable layers": 600_000_000,
        "L3 layers": 650_000_000,
        "L4 layers": 450_000_000,
        "canvas (shared)": 15_000_000,
        "depth head": 20_000_000,
        "decode": 1_700_000_000,
        "total": 35_400_000_000,
    },
}
"""Plan v14, section 9, latency tables, by (height, width, queries)."""

PLAN_MACS_NOTES: Mapping[str, str] = {
    "neck": "with L4 self-attention",
    "value maps": "with L3/L4 keys and values",
    "canvas (shared)": "smoothing only",
    "depth head": "with the last canvas read",
}

_PLANNED_SIZES = (
    *("encoder", "encoder_heads", "neck_channels", "neck_heads", "embed_dim", "num_heads", "num_points"),
    *("num_deformable_layers", "num_l3_layers", "num_l4_layers", "ffn_ratio", "head_ratio", "fourier_bands"),
)


class ComponentCost(NamedTuple):
    """One row of :class:`ModelCost`."""

    name: str
    stage: Stage
    parameters: int
    macs: int


class ModelCost(NamedTuple):
    """Costs of encoding one image and decoding its queries once."""

    components: tuple[ComponentCost, ...]
    """In the order of :data:`PARTS`."""
    sampling_macs: int
    """Of bilinear sampling, in none of the components: four per channel that is read."""

    def parameters(self, stage: Stage | None = None) -> int:
        """Of one stage, or of the whole model."""
        return sum(row.parameters for row in self.components if stage in (None, row.stage))

    def macs(self, stage: Stage | None = None) -> int:
        """Of one stage, or of the whole model, without sampling."""
        return sum(row.macs for row in self.components if stage in (None, row.stage))


def model_cost(config: ModelConfig, image_size: tuple[int, int], num_queries: int) -> ModelCost:
    """Parameters, and MACs for one image and one question.

    Args:
        config: of the model; a fraction of a second for any, since nothing is computed.
        image_size: (height, width) in pixels; padded as the model pads it.
        num_queries: K points that are asked at once.

    Raises:
        ValueError: a size or the number of queries is below 1.

    Example:
        >>> model_cost(ModelConfig.tiny(), (480, 640), num_queries=256).parameters()
        40183785
    """
    if min(image_size) < 1:
        raise ValueError(f"size must be (height, width) of at least 1 pixel, got {image_size}")
    if num_queries < 1:
        raise ValueError(f"num_queries must be at least 1, got {num_queries}")
    with torch.device("meta"):
        model = SPD(config).eval()
        images = torch.empty(1, 3, *image_size)
        query_points = torch.empty(1, num_queries, 2)
    macs = _MacCounter(model)
    with torch.no_grad(), macs:
        memory = model.encode(images)
        macs.stage = "decode"
        (model.decode_with_std if config.log_std else model.decode)(memory, query_points)
    parameters = _parameters_by_part(model)
    components = [
        ComponentCost(part.name, part.stage, parameters[part.name], macs.by_part[part.name])
        for part in PARTS
        if parameters[part.name]
    ]
    if config.interaction == "anchored":
        last_of_encode = sum(part.stage == "encode" for part in PARTS)
        components.insert(last_of_encode, ComponentCost(ANCHORS, "encode", 0, macs.by_part[ANCHORS]))
    return ModelCost(tuple(components), macs.sampling)


def plan_figure(config: ModelConfig, image_size: tuple[int, int], num_queries: int, name: str) -> PlanFigure:
    """The plan's figure for a component, or for ``encode``, ``decode`` or ``total``.

    Empty unless the model has the plan's sizes; its MACs are given at 256x320 and at 480x640 with 256 queries.
    """
    planned = ModelConfig.plan_v14()
    if any(getattr(config, size) != getattr(planned, size) for size in _PLANNED_SIZES):
        return PlanFigure()
    macs = PLAN_MACS.get((*image_size, num_queries), {}).get(name)
    return PlanFigure(PLAN_PARAMETERS.get(name), macs, PLAN_MACS_NOTES.get(name, "") if macs else "")


def _part_of(name: str) -> str | None:
    """The component of a module or parameter; None for the modules that only hold others."""
    found = [part.name for part in PARTS if f"{name}.".startswith(part.prefixes)]
    assert len(found) <= 1, f"{name} is in the components {found}"
    return found[0] if found else None


def _parameters_by_part(model: SPD) -> Counter[str]:
    parameters: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        part = _part_of(name)
        assert part is not None, f"{name} is in no component"
        parameters[part] += parameter.numel()
    assert parameters.total() == sum(parameter.numel() for parameter in model.parameters())
    return parameters


class _MacCounter(TorchFunctionMode):
    """Counts what is called while it is entered, for the component whose module is running."""

    def __init__(self, model: SPD) -> None:
        super().__init__()
        self.by_part: Counter[str] = Counter()
        self.sampling = 0
        self.stage: Stage = "encode"
        """Of what is called now."""
        self._running: list[tuple[str | None, nn.Module]] = []
        for name, module in model.named_modules():
            module.register_forward_pre_hook(self._entering(name))
            module.register_forward_hook(self._leave)

    def _entering(self, name: str) -> Callable[..., None]:
        # The encoder calls its stem's layers by itself.
        part = _part_of("encoder.backbone" if name == "encoder" else name)
        return lambda module, _: self._running.append((part, module))

    def _leave(self, *_: Any) -> None:
        self._running.pop()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if func in _PRODUCTS:
            part, _ = self._running[-1]
            assert part is not None, f"a product of {self._running[-1][1]} is in no component"
            is_anchors = self.stage == "encode" and part in _DECODER_PARTS
            self.by_part[ANCHORS if is_anchors else part] += _PRODUCTS[func](output, *args)
        elif func is F.embedding_bag:
            rows: Tensor = args[0]
            self.sampling += rows.numel() * output.shape[-1]
        return output


def _linear_macs(output: Tensor, tokens: Tensor, weight: Tensor, bias: Tensor | None = None) -> int:
    return output.numel() * weight.shape[1]


def _convolution_macs(output: Tensor, image: Tensor, weight: Tensor, *_: Any) -> int:
    return output.numel() * math.prod(weight.shape[1:])


def _batched_product_macs(output: Tensor, added: Tensor, left: Tensor, right: Tensor) -> int:
    return output.numel() * left.shape[-1]


def _attention_macs(output: Tensor, query: Tensor, key: Tensor, value: Tensor) -> int:
    # Q Kᵀ and then its product with V.
    pairs = query.shape[:-1].numel() * key.shape[-2]
    return pairs * (query.shape[-1] + value.shape[-1])


_PRODUCTS: Mapping[Callable[..., Any], Callable[..., int]] = {
    F.linear: _linear_macs,
    F.conv2d: _convolution_macs,
    torch.baddbmm: _batched_product_macs,
    F.scaled_dot_product_attention: _attention_macs,
}
