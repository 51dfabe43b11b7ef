"""Packs a trained checkpoint to ship: its weights in half precision, and notes on accuracy in its model card.

Example:
  python benchmarks/pack_checkpoint.py --checkpoint runs/3 --notes docs/spd-lite.md \
      --output src/spd/weights/spd-lite
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from spd.checkpoint import load_model, locate, read_config, save


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of this script."""

    checkpoint: str
    notes: Path
    """Markdown that goes into the card after its section on training."""
    output: Path


def main(options: Options) -> None:
    """Weights rounded to half precision, with the same provenance."""
    provenance = read_config(locate(options.checkpoint))["provenance"]
    model = load_model(options.checkpoint)
    save(model, options.output, provenance=provenance, dtype=torch.float16, notes=options.notes.read_text("utf-8"))
    size = (options.output / "model.safetensors").stat().st_size
    print(f"wrote {options.output}: {size / 1e6:.1f} MB of weights")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
