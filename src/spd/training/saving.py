"""The state of a run on disk, ``last.ckpt``: whole or not at all, checked when read, written when a signal comes."""

from __future__ import annotations

import copy
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint, WeightAveraging

from spd.files import replacing
from spd.messages import first_line
from spd.training.stopping import Stopped, StopSignals

RESUME_FILE = "last.ckpt"

_PARTS = {
    "global_step": int,
    "epoch": int,
    "pytorch-lightning_version": str,
    "state_dict": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
    "loops": dict,
    "callbacks": dict,
}
"""What every state holds."""


class StateFiles(TorchCheckpointIO):
    """Writes a state beside its place and moves it there when the disk has it; the one before stays until then."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Raises ``OSError`` that names the file."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as file:
            stream: Any = _Stream(file)
            try:
                torch.save(checkpoint, stream)
            except (RuntimeError, OSError):
                # PyTorch says that writing failed, not why.
                raise stream.error or OSError(f"{target} could not be written") from None

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Raises ``ValueError`` where the file is damaged."""
        return read_state(Path(path), checked=False)


class _Stream:
    """A file for ``torch.save`` that remembers why it could not be written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


def read_state(path: Path, *, checked: bool = True) -> dict[str, Any]:
    """The state in ``path``, on the CPU; executes nothing that the file holds.

    Args:
        path: the file.
        checked: also compare the checksum of each of its parts; costs as much as reading it once more.

    Raises:
        ValueError: it is damaged, or no state of a run.
    """
    problem = f"{path} is damaged or no state of a run"
    try:
        if checked and (part := zipfile.ZipFile(path).testzip()):
            raise ValueError(f"{problem}: {part} is not what was written; start again in another --output")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise ValueError(f"{problem}: {first_line(error, 160)}") from None
    except OSError as error:
        if error.filename is not None:
            raise
        raise ValueError(f"{problem}: {first_line(error, 160)}") from None
    except ValueError:
        raise
    except Exception as error:  # Of unpickling what is no longer a pickle: almost any.
        raise ValueError(f"{problem}: {first_line(error, 160)}") from None
    if not isinstance(state, Mapping):
        raise ValueError(f"{problem}: it holds {type(state).__name__}")
    for name, kind in _PARTS.items():
        if not isinstance(state.get(name), kind):
            raise ValueError(f"{problem}: it has no {name}")
    return dict(state)


def load_state(module: torch.nn.Module, state: Mapping[str, Any], path: Path) -> None:
    """Give a module the weights of a state; raises ``ValueError`` that names ``path`` where they do not fit."""
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit the configuration beside it: {first_line(error, 160)}") from None


class Averaging(WeightAveraging):
    """Lightning's average of weights, which also gives the current ones back where validation does not end."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._swapped = False

    def _swap_models(self, pl_module: pl.LightningModule) -> None:
        super()._swap_models(pl_module)
        self._swapped = not self._swapped

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if self._swapped:
            self._swap_models(pl_module)


class SaveState(Checkpoint):
    """Writes ``last.ckpt`` every so many steps, at the last step, and when a signal ends the run.

    A callback of this class runs after the others: what it saves has the average of the step.

    Args:
        folder: of the run.
        every: steps between two writes.
        total_steps: length of the run.
        signals: what may end it.
    """

    def __init__(self, folder: Path, every: int, total_steps: int, signals: StopSignals) -> None:
        self.path = folder / RESUME_FILE
        self.every = every
        self.total_steps = total_steps
        self.signals = signals
        self.validation: dict[str, float] = {}
        """The last figures, by name."""
        self.extended_at: list[int] = []
        """Steps at which the run was to end and was made longer."""
        self._saved_step: int | None = None
        self._loops: dict[str, Any] | None = None

    @property
    def state_key(self) -> str:
        """Under which :meth:`state_dict` is kept."""
        return "SaveState"

    def state_dict(self) -> dict[str, Any]:
        """What :func:`spd.training.resuming.read_progress` reads."""
        return {"total_steps": self.total_steps, "validation": self.validation, "extended_at": self.extended_at}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Of the run that is continued."""
        self.validation = dict(state_dict.get("validation", {}))
        self.extended_at = list(state_dict.get("extended_at", ()))
        if state_dict.get("total_steps", self.total_steps) != self.total_steps:
            self.extended_at.append(state_dict["total_steps"])

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        # Lightning has taken the signals by now.
        self.signals.take()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._saved_step = trainer.global_step
        self.signals.defer()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._loops = None
        step = trainer.global_step
        signum = self._stopping(trainer)
        if step % self.every == 0 or step == self.total_steps or signum is not None:
            self._save(trainer)
        if signum is not None:
            raise Stopped(signum)
        # Where validation is broken off, the run continues from here.
        if trainer.is_last_batch:
            self._loops = copy.deepcopy(trainer.fit_loop.state_dict())

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._loops is not None and (signum := self._stopping(trainer)) is not None:
            raise Stopped(signum)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._loops = None
        self.validation = validation_figures(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if isinstance(exception, Stopped) and self._loops is not None and self._saved_step != trainer.global_step:
            self._save(trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self._loops is not None:
            checkpoint["loops"]["fit_loop"] = self._loops

    def _save(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self._saved_step = trainer.global_step

    def _stopping(self, trainer: pl.Trainer) -> int | None:
        """The signal that any of the processes has received: all stop at the same step."""
        signum = self.signals.received or 0
        if trainer.world_size > 1:
            received = torch.tensor(float(signum), device=trainer.strategy.root_device)
            signum = int(trainer.strategy.reduce(received, reduce_op="max"))
        return signum or None


def validation_figures(trainer: pl.Trainer) -> dict[str, float]:
    """Of the validation that was last, by name without ``val/``."""
    return {
        name.removeprefix("val/"): round(float(value), 4)
        for name, value in trainer.callback_metrics.items()
        if name.startswith("val/")
    }
