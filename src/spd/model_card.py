"""The model card of a checkpoint: what it is, how it is used, and under which licences."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import timm

from spd.config import Architecture, Interaction, ModelConfig
from spd.depth_range import DepthRange

_CARD = """---
library_name: spd
pipeline_tag: depth-estimation
license: {licence}
---

# {text.title}

{text.summary}

```python
{text.loading}  # this folder, or its name on the Hugging Face hub
depth_m = predictor("image.jpg", [(320, 240), (100, 50)])  # (u, v) pixels of that image
```

| | |
|---|---|
| architecture | {config.architecture} |
| parameters | {parameters:,} |
| encoder | {encoder} |
{text.sizes}
| training size | {width}x{height} |
| canonical focal length | {config.canonical_focal_length:.1f} pixels at {width}x{height} |
| true depth in training | {depth_range} |
| checksum of the weights | {checksum} |

## Training

{training}
{notes}
## Use

Depth at clicks, keypoints or detections in photographs of indoor scenes, taken with an ordinary perspective camera.

## Limits

- Depth is z-depth: metres along the optical axis, not along the ray.
- Absolute scale rests on the camera. With its intrinsics, depth is brought to its focal length; without them the camera
  is taken to have the canonical focal length once the image is resized to the model.
- Outdoor scenes, fisheye lenses, drawings, mirrors and glass are beyond what it was trained for.
- {text.limit}
- It is no safety device: do not let it alone keep a machine away from people or obstacles.

## Licences

The code is Apache-2.0. {weights_licence}
"""


class _Text(NamedTuple):
    """What the card says of one architecture alone."""

    title: str
    summary: str
    loading: str
    sizes: str
    limit: str


_TEXTS: Mapping[Architecture, _Text] = {
    "spd": _Text(
        title="Sparse Query-Point Depth",
        summary="Depth in metres at the pixels that are asked for: one RGB image is encoded once, and any number of "
        "its points is then\ndecoded.",
        loading='import spd\n\npredictor = spd.load("FOLDER")',
        sizes="| query width, decoder layers | {config.embed_dim}, {config.num_layers} |\n"
        "| interaction of queries | {config.interaction} |",
        limit="{limit}",
    ),
    "bilinear": _Text(
        title="Bilinear + MLP, a baseline of Sparse Query-Point Depth",
        summary="Depth in metres at the pixels that are asked for, from the first features of the encoder alone. It is "
        "there to be\ncompared with; the model to use is SPD.",
        loading='from spd.baselines import bilinear_mlp\n\npredictor = bilinear_mlp.load("FOLDER")',
        sizes="| channels of L1 | {config.neck_channels[0]} |",
        limit="A point is judged by its surroundings in the image, some tens of pixels: the network sees no objects "
        "and no room.",
    ),
}


_SPD_LIMITS: Mapping[Interaction, str] = {
    "joint": "Points of one question see each other: the answer at a pixel depends slightly on which others are asked "
    "with it.",
    "anchored": "An object smaller than the gaps between the anchors, about {config.anchor_stride} pixels, is known "
    "to the points on it alone.",
}


def model_card(
    config: ModelConfig, parameters: int, provenance: Mapping[str, Any], *, checksum: str, notes: str = ""
) -> str:
    """Sizes, training, ``notes``, use, limits and licences, with the header that the Hugging Face hub reads.

    Weights carry the terms of what they were made from: of ImageNet weights where training started from those, and of
    the data, ``data_terms`` of the provenance.
    """
    terms = provenance.get("data_terms")
    licence, start = _licence(config, terms)
    of_data = f"The terms of the data they were trained on: {terms or 'not recorded'}."
    height, width = config.train_size
    weights_licence = f"{start} {of_data}"
    training = "\n".join(_items(provenance)) or "Not recorded."
    text = _TEXTS[config.architecture]
    return _CARD.format(
        text=text._replace(
            sizes=text.sizes.format(config=config),
            limit=text.limit.format(limit=_SPD_LIMITS[config.interaction].format(config=config)),
        ),
        config=config,
        depth_range=DepthRange(*config.depth_range),
        encoder=config.encoder if config.architecture == "spd" else f"{config.encoder}, first stage",
        parameters=parameters,
        licence=licence,
        weights_licence=weights_licence,
        training=training,
        checksum=checksum,
        notes=f"\n{notes.strip()}\n" if notes.strip() else "",
        width=width,
        height=height,
    )


def _licence(config: ModelConfig, terms: Any) -> tuple[str, str]:
    """The hub's word for the weights' licence, and where they started."""
    if not config.pretrained:
        licence = "apache-2.0" if terms == "apache-2.0" else "other"
        return licence, "The weights were trained from random values; no other weights are in them."
    timm_weights = timm.get_pretrained_cfg(config.encoder)
    licence = (timm_weights and timm_weights.license) or "unknown"
    return licence, f"The encoder started from ImageNet weights of `{config.encoder}`, whose licence is {licence}."


def _items(values: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """The lines of a list, what lies in a value as a list within it."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield f"{indent}- {name}:"
            yield from _items(value, indent + "  ")
        else:
            yield f"{indent}- {name}: {_one_line(value)}"


def _one_line(value: Any) -> str:
    """A JSON value as one line of a list: text as it is, the rest as JSON."""
    text = value if isinstance(value, str) else json.dumps(value)
    return " ".join(text.split())
