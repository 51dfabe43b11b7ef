"""Scale-invariant log loss and relative error on points, and the first densely on coarse maps (plan 7.2)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from spd.coordinates import surrounding_cells

EDGE_RATIO = 1.1
"""Depths around a point that differ by more than this factor belong to two surfaces."""
# Below this the square root's slope grows without bound (design decision on SILog).
_SMALLEST_RADICAND = 1e-6


class ImageLoss(NamedTuple):
    """A loss averaged over the images that have anything to compare."""

    mean: Float[Tensor, ""]
    """Zero, yet connected to the graph, where no image has."""
    skipped: Int[Tensor, ""]
    """Images without a single valid value."""
    per_image: Float[Tensor, "B"]
    """Of every image; means nothing where one has nothing to compare."""


def silog_loss(
    log_depth: Float[Tensor, "B N"],
    true_log_depth: Float[Tensor, "B N"],
    valid_mask: Bool[Tensor, "B N"],
    lam: float,
) -> ImageLoss:
    """√(mean δ² − λ (mean δ)²) per image with δ = predicted − true log depth, then the mean over images.

    λ = 1 is the standard deviation of δ and forgives any error of scale; λ = 0 is its root mean square. Per image, so
    that one image's error of scale does not cancel another's. Computed in float32, the radicand clamped at 1e-6.

    Args:
        log_depth: predictions; anything finite where ``valid_mask`` is False.
        true_log_depth: the truth, likewise.
        valid_mask: which values count.
        lam: λ.
    """
    weight = valid_mask.float()
    delta = torch.where(valid_mask, log_depth.float() - true_log_depth.float(), 0.0)
    count = weight.sum(1)
    number = count.clamp(min=1)
    bias = delta.sum(1) / number
    variance = ((delta - bias.unsqueeze(1)) * weight).square().sum(1) / number
    # The same as the mean square less λ times the squared mean, without the difference of two large numbers.
    radicand = variance + (1 - lam) * bias.square()
    return _over_images(radicand.clamp(min=_SMALLEST_RADICAND).sqrt(), count > 0, log_depth)


def relative_loss(
    log_depth: Float[Tensor, "B N"], true_log_depth: Float[Tensor, "B N"], valid_mask: Bool[Tensor, "B N"]
) -> ImageLoss:
    """Mean of |d − d*| / d* over the points of an image, then over the images: AbsRel itself, in float32.

    SILog is least at the mean of what log depth may be; this is least nearer by about its variance, since a depth that
    is too large costs without bound and one that is too small at most 1.

    Args:
        log_depth: predictions; anything finite where ``valid_mask`` is False.
        true_log_depth: the truth, likewise.
        valid_mask: which values count.
    """
    delta = torch.where(valid_mask, log_depth.float() - true_log_depth.float(), 0.0)
    count = valid_mask.sum(1)
    return _over_images(delta.expm1().abs().sum(1) / count.clamp(min=1), count > 0, log_depth)


def likelihood_loss(
    log_depth: Float[Tensor, "B N"],
    log_scale: Float[Tensor, "B N"],
    true_log_depth: Float[Tensor, "B N"],
    valid_mask: Bool[Tensor, "B N"],
) -> ImageLoss:
    """−ln of a Laplace density, |δ| / b + ln 2b, mean over the points of an image, then over the images, in float32.

    Args:
        log_depth: predictions; anything finite where ``valid_mask`` is False.
        log_scale: ln b, likewise.
        true_log_depth: the truth, likewise.
        valid_mask: which values count.
    """
    delta = (log_depth.float() - true_log_depth.float()).abs()
    log_scale = log_scale.float()
    of_points = torch.where(valid_mask, delta * (-log_scale).exp() + log_scale + math.log(2), 0.0)
    count = valid_mask.sum(1)
    return _over_images(of_points.sum(1) / count.clamp(min=1), count > 0, log_scale)


def _over_images(
    per_image: Float[Tensor, "B"], has_any: Bool[Tensor, "B"], log_depth: Float[Tensor, "B N"]
) -> ImageLoss:
    # Multiplying keeps a batch of only empty images connected to the graph, which DDP needs.
    mean = (per_image * has_any).sum() / has_any.sum().clamp(min=1) + 0.0 * log_depth.float().sum()
    return ImageLoss(mean, (~has_any).sum(), per_image)


def pool_valid_depth(
    depth_m: Float[Tensor, "B H W"], stride: int
) -> tuple[Float[Tensor, "B h w"], Bool[Tensor, "B h w"]]:
    """Mean depth of the valid pixels of each stride × stride cell, and which cells have any.

    Args:
        depth_m: metres, 0 where there is no measurement; H and W multiples of ``stride``.
        stride: pixels per cell.
    """
    valid = (depth_m > 0).to(depth_m.dtype)
    total = F.avg_pool2d(depth_m.unsqueeze(1), stride).squeeze(1)
    share = F.avg_pool2d(valid.unsqueeze(1), stride).squeeze(1)
    has_any = share > 0
    return torch.where(has_any, total / share.clamp(min=torch.finfo(share.dtype).tiny), 0.0), has_any


def depth_between_pixels(
    depth_m: Float[Tensor, "B H W"], points: Float[Tensor, "N 2"]
) -> tuple[Float[Tensor, "B N"], Bool[Tensor, "B N"]]:
    """The true depth at points that lie between pixels: the median of the valid ones of the four pixels around.

    Invalid where none is, or where the farthest is more than a tenth beyond the nearest: a point on a depth edge has
    no one depth. A point on a pixel's centre has that pixel among its four.

    Args:
        depth_m: metres, 0 where there is no measurement.
        points: xy pixel indices, the same for every image.

    Returns:
        Metres, 1 where invalid; and which are valid. Points beyond the outermost pixels are taken to them.
    """
    height, width = depth_m.shape[-2:]
    index, _ = surrounding_cells(points, height, width)
    four = depth_m.flatten(1)[:, index]
    known = four > 0
    count = known.sum(-1, keepdim=True)
    # Unknown depths go to the end, so that the known ones are in order from the start.
    ordered = torch.where(known, four, torch.inf).sort(dim=-1).values
    middle = torch.cat(((count - 1).clamp(min=0) // 2, count // 2), dim=-1)
    median = ordered.gather(-1, middle).mean(-1)
    farthest = ordered.gather(-1, (count - 1).clamp(min=0)).squeeze(-1)
    valid = (count.squeeze(-1) > 0) & (farthest <= EDGE_RATIO * ordered[..., 0])
    return torch.where(valid, median, 1.0), valid


def dense_silog_loss(log_depth: Float[Tensor, "B h w"], depth_m: Float[Tensor, "B H W"], lam: float) -> ImageLoss:
    """SILog of a coarse map of log depth against the truth averaged over each of its cells.

    Args:
        log_depth: predictions, one per cell.
        depth_m: the truth in metres at full resolution, 0 where there is none.
        lam: λ of :func:`silog_loss`.
    """
    stride = depth_m.shape[-1] // log_depth.shape[-1]
    pooled, valid = pool_valid_depth(depth_m, stride)
    true_log_depth = torch.where(valid, pooled, 1.0).log()
    return silog_loss(log_depth.flatten(1), true_log_depth.flatten(1), valid.flatten(1), lam)
