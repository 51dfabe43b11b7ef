"""What to watch while a model trains: is the canvas alive, are the gates open, do the points move (plan 10.3, 17)."""

from __future__ import annotations

import time
from typing import Any

import lightning.pytorch as pl
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from spd.coordinates import STRIDES
from spd.model.decoder import Decoder
from spd.model.deformable_attention import DeformableAttention
from spd.model.spd import SPD
from spd.training.module import SPDModule


class DecoderProbe:
    """Figures of one forward pass of the decoder, read off its modules by hooks while it is open.

    Nothing is kept on the model, and a pass that is not watched costs nothing.
    """

    def __init__(self, decoder: Decoder) -> None:
        self.figures: dict[str, Tensor] = {}
        self._canvas_writes = 0
        self._offsets: list[Tensor] = []
        self._handles: list[RemovableHandle] = []
        if decoder.canvas is not None:
            self._handles.append(decoder.canvas.smooth.register_forward_hook(self._see_canvas))
        for number, layer in enumerate(decoder.layers(), start=1):
            if layer.canvas_access is not None:
                self._handles.append(layer.canvas_access.gate.register_forward_hook(self._see_gate(number)))
            if isinstance(layer.cross_attention, DeformableAttention):
                self._handles.append(layer.cross_attention.register_forward_hook(self._see_offsets))

    def close(self) -> dict[str, Tensor]:
        """Take the hooks off and return what was seen.

        ``canvas_std/layer_n``, ``gate/layer_n`` and ``offset_px/level_l``: the mean length of the sampling offsets in
        pixels of the image.
        """
        for handle in self._handles:
            handle.remove()
        for level, stride in enumerate(STRIDES):
            lengths = [offsets[..., level, :, :].norm(dim=-1).mean() for offsets in self._offsets]
            self.figures[f"offset_px/level_{level + 1}"] = sum(lengths, start=lengths[0] * 0) / len(lengths) * stride
        return self.figures

    def _see_canvas(self, module: Any, inputs: Any, canvas: Tensor) -> None:
        self._canvas_writes += 1
        self.figures[f"canvas_std/layer_{self._canvas_writes}"] = canvas.detach().float().std()

    def _see_gate(self, number: int):
        def hook(module: Any, inputs: Any, logit: Tensor) -> None:
            self.figures[f"gate/layer_{number}"] = logit.detach().float().sigmoid().mean()

        return hook

    def _see_offsets(self, module: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        hidden, _, values = inputs
        self._offsets.append(module.offsets_in_cells(hidden.detach(), values).detach().float())


class Watch(pl.Callback):
    """Logs the figures of SPD's decoder and, of any network, images/s every ``log_every`` steps."""

    def __init__(self, log_every: int) -> None:
        self.log_every = log_every
        self._due = False
        self._probe: DecoderProbe | None = None
        self._images = 0
        self._since = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # A run that continues in mid-epoch starts no epoch.
        self._images, self._since = 0, time.perf_counter()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Validation lies between epochs: its time is not training's.
        self._images, self._since = 0, time.perf_counter()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, SPDModule)
        self._due = (trainer.global_step + 1) % self.log_every == 0
        network = pl_module.running()
        if self._due and isinstance(network, SPD):
            self._probe = DecoderProbe(network.decoder)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._images += len(batch.images) * trainer.world_size
        if not self._due:
            return
        if self._probe is not None:
            pl_module.log_dict(self._probe.close())
            self._probe = None
        now = time.perf_counter()
        pl_module.log("images_per_s", self._images / (now - self._since), prog_bar=True)
        self._images, self._since = 0, now
