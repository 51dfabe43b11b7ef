"""The spatial canvas by one kernel for its write and smoothing, and a gate without a product of one column."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from spd.coordinates import location_dtype
from spd.fast import operators
from spd.fast.adopting import Adopting
from spd.fast.precision import product_dtype
from spd.model import spatial_canvas as plain
from spd.model.spatial_canvas import CanvasPlaces


class FastSpatialCanvas(Adopting, plain.SpatialCanvas):
    """:class:`spd.model.spatial_canvas.SpatialCanvas` by the kernel."""

    def write(
        self,
        canvas: Float[Tensor, "B D H W"],
        places: CanvasPlaces,
        hidden: Float[Tensor, "B K D"],
    ) -> Float[Tensor, "B D H W"]:
        """F⁽ⁿ⁻¹⁾ to F⁽ⁿ⁾: write the queries' states, then smooth."""
        if not operators.is_supported(canvas, canvas.shape[1]):
            return super().write(canvas, places, hidden)
        written = plain.unmasked(self.write_projection(hidden), places)
        cells, convolutions = canvas.permute(0, 2, 3, 1), self.smooth.parameters()
        stepped = operators.canvas_step(cells, written, places.rows, places.shares, *convolutions)
        return stepped.permute(0, 3, 1, 2)


class FastCanvasAccess(Adopting, plain.CanvasAccess):
    """:class:`spd.model.spatial_canvas.CanvasAccess` with its gate as a sum where that is quicker than a product."""

    def gate_logit(self, hidden: Float[Tensor, "B K D"]) -> Float[Tensor, "B K 1"]:
        """How far each query's gate is open, before the sigmoid."""
        normed = self.norm(hidden)
        is_quicker = torch.compiler.is_compiling() or product_dtype(normed) == torch.bfloat16
        if torch.is_grad_enabled() or not is_quicker:
            return self.gate(normed)
        # A compiler joins a sum with the norm before it, and in bfloat16 a product with one column takes longer.
        dtype = location_dtype(normed)
        return (normed.to(dtype) * self.gate.weight[0].to(dtype)).sum(-1, keepdim=True) + self.gate.bias.to(dtype)
