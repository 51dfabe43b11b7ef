"""One optimisation step: what Lightning runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn

from spd.baselines.bilinear_mlp import BilinearMLP
from spd.config import Architecture, ModelConfig
from spd.coordinates import anchor_points
from spd.data.batches import TrainingBatch
from spd.data.datamodule import RGBDDataModule
from spd.evaluation.alignment import scale_by_median
from spd.evaluation.metrics import compute_metrics
from spd.fast import quicken
from spd.model.depth_head import DenseAuxiliaryHeads
from spd.model.encoder import Encoder
from spd.model.network import DepthNetwork
from spd.model.spd import SPD
from spd.train_config import TrainConfig
from spd.training.losses import dense_silog_loss, depth_between_pixels, likelihood_loss, relative_loss, silog_loss

NETWORKS: Mapping[Architecture, type[DepthNetwork]] = {"spd": SPD, "bilinear": BilinearMLP}


class NonFiniteLossError(RuntimeError):
    """The loss became NaN or infinite; the message names the step, the parts of the loss and the images."""


_FIGURES_OF_SCENES = ("abs_rel", "abs_rel_aligned")
"""What is also averaged over scenes, each counting the same."""


class StepLosses(NamedTuple):
    """The parts of a step's loss; ``total`` is what is minimised."""

    total: Tensor
    silog: Tensor
    others: Mapping[str, Tensor]
    """Of the relative error, the dense heads and the anchors, by name; without those that a run does not have."""
    skipped: Tensor


class SPDModule(pl.LightningModule):
    """A network, SPD with its dense auxiliary heads; the loss of plan 7.2 and the optimiser of plan 7.3."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.config = config
        self.model = build_network(config.model)
        if has_frozen_statistics(config, self.model.encoder):
            self.model.encoder.freeze_statistics()
        # They teach L2 and L3, which only SPD has.
        channels = config.model.neck_channels
        self.auxiliary_heads = DenseAuxiliaryHeads(*channels[1:3]) if isinstance(self.model, SPD) else None
        self._quick: tuple[DepthNetwork, ...] = ()

    def running(self) -> DepthNetwork:
        """What a step calls: the quick network around the parameters of :attr:`model`.

        It is made at the first call, when the parameters are on their device, and is no part of this module: what is
        saved, averaged and optimised is the plain one. In a tuple, since a module as an attribute becomes a part.
        """
        if not self._quick:
            self._quick = (quicken(self.model, "train"),)
        return self._quick[0].train(self.model.training)

    def on_train_batch_start(self, batch: TrainingBatch, batch_idx: int) -> None:
        """Seed dropout by (seed, step, rank): a run that continues draws what the unbroken run would have drawn."""
        key = (self.config.seed, self.global_step, self.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1))

    def training_step(self, batch: TrainingBatch, batch_idx: int) -> Tensor:
        network = self.running()
        memory, anchors = network.encode_with_anchors(batch.images)
        states = network.decode_states(memory, batch.query_points, batch.query_mask)
        log_depth = network.depth_head(states)
        weights = self.config.loss
        lam = weights.silog_lambda
        true_log_depth = batch.query_depth_m.log()
        silog = silog_loss(log_depth, true_log_depth, batch.query_mask, lam)
        others: dict[str, Tensor] = {}
        total = silog.mean
        if weights.relative_weight:
            others["relative"] = relative_loss(log_depth, true_log_depth, batch.query_mask).mean
            total = total + weights.relative_weight * others["relative"]
        if (likelihood := self._likelihood(memory, states, log_depth, batch)) is not None:
            others["likelihood"] = likelihood
            total = total + (weights.likelihood_weight or 1.0) * likelihood
        if self.auxiliary_heads is not None:
            dense_log_depths = zip(("l2", "l3"), self.auxiliary_heads(memory.levels), strict=True)
            for name, dense in dense_log_depths:
                others[f"auxiliary_{name}"] = dense_silog_loss(dense, batch.depth_m, lam).mean
                total = total + weights.auxiliary_weight * others[f"auxiliary_{name}"]
        if anchors is not None:
            others["anchors"] = self._anchor_loss(anchors, batch.depth_m)
            total = total + weights.anchor_weight * others["anchors"]
        losses = StepLosses(total, silog.mean, others, silog.skipped)
        self._require_finite(losses, batch)
        self._log_step(losses, log_depth.detach())
        self._log_sets(silog.per_image.detach(), batch)
        return total

    def _likelihood(self, memory: Any, states: Tensor, log_depth: Tensor, batch: TrainingBatch) -> Tensor | None:
        """The negative log likelihood; with a weight of 0 it teaches the scale alone, and depth not at all."""
        if self.model.scale_head is None:
            return None
        context = self.model.context(memory)
        if not self.config.loss.likelihood_weight:
            states, log_depth, context = states.detach(), log_depth.detach(), context.detach()
        log_scale = self.model.scale_head(states, context)
        return likelihood_loss(log_depth, log_scale, batch.query_depth_m.log(), batch.query_mask).mean

    def _anchor_loss(self, log_depth: Tensor, depth_m: Tensor) -> Tensor:
        size = (depth_m.shape[-2], depth_m.shape[-1])
        points = anchor_points(size, self.config.model.anchor_stride, depth_m.device)
        true_m, valid = depth_between_pixels(depth_m, points)
        weights = self.config.loss
        loss = silog_loss(log_depth, true_m.log(), valid, weights.silog_lambda).mean
        if weights.relative_weight:
            loss = loss + weights.relative_weight * relative_loss(log_depth, true_m.log(), valid).mean
        return loss

    def validation_step(self, batch: TrainingBatch, batch_idx: int) -> None:
        depth_m = self.running()(batch.images, batch.query_points, batch.query_mask)
        silog = silog_loss(
            depth_m.log(), batch.query_depth_m.log(), batch.query_mask, self.config.loss.silog_lambda
        ).per_image
        by_set: dict[int, list[dict[str, float]]] = {}
        for index, valid in enumerate(batch.query_mask):
            if valid.any():
                scale = batch.depth_scale[index]
                predicted, true = (
                    (scale * of_image[index, valid]).cpu().numpy() for of_image in (depth_m, batch.query_depth_m)
                )
                figures = validation_figures(predicted, true)
                figures["silog"] = silog[index].item()
                scene_weight = self._data().val_scene_weight(int(batch.indices[index]))
                figures |= {f"{name}_scenes": scene_weight * figures[name] for name in _FIGURES_OF_SCENES}
                by_set.setdefault(int(batch.data_sets[index]), []).append(figures)
        for data_set, of_images in by_set.items():
            prefix = f"val/{self._data().val_prefix(data_set)}"
            mean = {f"{prefix}{name}": float(np.mean([of[name] for of in of_images])) for name in of_images[0]}
            self.log_dict(mean, on_epoch=True, batch_size=len(of_images))

    def configure_optimizers(self) -> Any:
        # One kernel for all parameters saves a twentieth of a step of small images on a CPU.
        optimizer = torch.optim.AdamW(parameter_groups(self, self.config), fused=True)
        total_steps = int(self.trainer.estimated_stepping_batches)
        warmup, final = self.config.optimizer.warmup_steps, self.config.optimizer.final_lr_fraction
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, total_steps, warmup, final)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """By the norm of all gradients.

        Lightning's own refuses a fused optimiser under mixed precision, for the sake of a scaler that bfloat16 lacks.
        """
        if gradient_clip_val:
            scale = {id(parameter) for parameter in self._scale_parameters()}
            rest = [parameter for parameter in self.parameters() if id(parameter) not in scale]
            # Apart, so that the rest learns as it would without the scale.
            for parameters in (rest, self._scale_parameters()):
                torch.nn.utils.clip_grad_norm_(parameters, gradient_clip_val)

    def _scale_parameters(self) -> list[nn.Parameter]:
        return [] if self.model.scale_head is None else list(self.model.scale_head.parameters())

    def _log_step(self, losses: StepLosses, log_depth: Tensor) -> None:
        self.log("train/loss", losses.total)
        self.log("train/silog", losses.silog, prog_bar=True)
        for name, loss in losses.others.items():
            self.log(f"train/{name}", loss)
        self.log("train/skipped_images", losses.skipped.float())
        self.log("prediction/nearest_m", log_depth.min().exp(), prog_bar=True)
        self.log("prediction/farthest_m", log_depth.max().exp(), prog_bar=True)
        self.log("model/depth_scale", self.model.depth_head.log_scale.detach().exp())

    def _log_sets(self, silog: Tensor, batch: TrainingBatch) -> None:
        """The loss of each data set's images, where there are several sets."""
        names = self.config.data.set_names
        if len(names) < 2:
            return
        counted = batch.query_mask.any(1)
        for number, name in enumerate(names):
            of_set = counted & (batch.data_sets == number)
            if of_set.any():
                self.log(f"train/silog/{name}", silog[of_set].mean())

    def _data(self) -> RGBDDataModule:
        return self.trainer.datamodule  # type: ignore[attr-defined]

    def _require_finite(self, losses: StepLosses, batch: TrainingBatch) -> None:
        if math.isfinite(losses.total.item()):
            return
        names = ", ".join(self._data().frame_names(batch.indices.tolist()))
        parts = {"silog": losses.silog, **losses.others}
        told = ", ".join(f"{name.replace('_', ' ')} {loss.item():g}" for name, loss in parts.items())
        raise NonFiniteLossError(
            f"the loss is not finite at step {self.global_step} (epoch {self.current_epoch}): {told}; "
            f"the batch is {names}"
        )


def validation_figures(predicted_m: np.ndarray, true_m: np.ndarray) -> dict[str, float]:
    """Errors of one image, of the answers as they are and after scaling by the median.

    Args:
        predicted_m: (N,) metres.
        true_m: (N,) metres.
    """
    predicted_m, true_m = predicted_m.astype(np.float64), true_m.astype(np.float64)
    raw = compute_metrics(predicted_m, true_m)
    aligned = compute_metrics(scale_by_median(predicted_m, true_m), true_m)
    return {"abs_rel": raw.abs_rel, "rmse": raw.rmse, "delta1": raw.delta1, "abs_rel_aligned": aligned.abs_rel}


def build_network(config: ModelConfig) -> DepthNetwork:
    """The network of that configuration, with random weights."""
    return NETWORKS[config.architecture](config)


def has_frozen_statistics(config: TrainConfig, encoder: Encoder) -> bool:
    """Whether batch norms keep their statistics: by default where training starts from weights that know their own.

    Raises:
        ValueError: they are to be trained, and the encoder has none.
    """
    wanted = config.optimizer.batch_norm
    if wanted != "auto" and not encoder.batch_norms():
        raise ValueError(f"batch_norm {wanted} is for encoders with batch norms, got {config.model.encoder}")
    return wanted == "frozen" or (wanted == "auto" and (config.model.pretrained or config.init is not None))


def parameter_groups(module: SPDModule, config: TrainConfig) -> list[dict[str, Any]]:
    """AdamW's groups: timm's parameters at their own rate, and weight decay on matrices only.

    The low rate is exactly for timm's parameters: the self-attention after stage 3 starts from random weights and
    learns with the decoder. Every parameter is in exactly one group.
    """
    optimizer = config.optimizer
    encoder = {id(parameter) for parameter in module.model.encoder.backbone.parameters()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in module.parameters():
        groups.setdefault((id(parameter) in encoder, parameter.ndim >= 2), []).append(parameter)
    assert sum(map(len, groups.values())) == len(list(module.parameters()))
    return [
        {
            "name": f"{'encoder' if is_encoder else 'decoder'}/{'decayed' if is_matrix else 'free'}",
            "params": parameters,
            "lr": config.encoder_learning_rate if is_encoder else optimizer.learning_rate,
            "weight_decay": optimizer.weight_decay if is_matrix else 0.0,
        }
        for (is_encoder, is_matrix), parameters in groups.items()
    ]


def learning_rate_factor(step: int, total_steps: int, warmup_steps: int, final_fraction: float) -> float:
    """Of the peak rate at a step: linear warm-up, then a cosine down to ``final_fraction`` at the last step.

    Example:
        >>> [round(learning_rate_factor(step, 101, 10, 0.01), 3) for step in (0, 9, 10, 55, 100)]
        [0.1, 1.0, 1.0, 0.505, 0.01]
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, total_steps - 1 - warmup_steps))
    return final_fraction + (1 - final_fraction) * 0.5 * (1 + math.cos(math.pi * progress))
