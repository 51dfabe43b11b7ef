"""A training run from its configuration to a checkpoint that answers."""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import LearningRateMonitor, TQDMProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from torch.optim.swa_utils import get_ema_multi_avg_fn

from spd.allocator import keep_freed_memory
from spd.checkpoint import load_weights
from spd.data.datamodule import RGBDDataModule
from spd.data.summary import summarize
from spd.model.network import DepthNetwork
from spd.train_config import TrainConfig
from spd.training.answers import Run, origin_of, save_answers
from spd.training.curves import draw_curves
from spd.training.diagnostics import Watch
from spd.training.module import SPDModule
from spd.training.resuming import CONFIG_FILE as CONFIG_FILE
from spd.training.resuming import Progress, has_answers_of, prepare_folder, read_progress, write_config
from spd.training.saving import (
    RESUME_FILE,
    Averaging,
    SaveState,
    StateFiles,
    load_state,
    read_state,
    validation_figures,
)
from spd.training.stopping import Stopped, StopSignals
from spd.training.surroundings import check_surroundings, is_first_process

_log = logging.getLogger(__name__)

LOG_FOLDER = "logs"


def train(config: TrainConfig) -> Path:
    """Train and write the checkpoint to ``config.output``.

    The folder then holds a checkpoint that :func:`spd.load` reads, ``train.json`` with the resolved configuration,
    ``last.ckpt`` to resume from, TensorBoard's files under ``logs``, and the curves as a picture. A finished run that
    is resumed stays as it is, to the byte.

    Returns:
        The folder.

    Raises:
        ValueError: the data cannot be read; the folder is somebody else's, or holds a run that ``config.resume`` does
            not continue or one whose configuration differs; pretrained weights cannot be had, or those of
            ``config.init`` do not fit; there is no such device.
        NonFiniteLossError: the loss became NaN or infinite.
        Stopped: a signal ended the run; the message says where it stands.
    """
    with StopSignals() as signals:
        try:
            return _train(config, signals)
        except Stopped as stop:
            if not is_first_process():
                raise SystemExit(stop.status) from None
            raise Stopped(stop.signum, _where_it_stands(config, stop)) from None


def _train(config: TrainConfig, signals: StopSignals) -> Path:
    check_surroundings(config)
    progress = prepare_folder(config)
    keep_freed_memory()
    _quieten_lightning()
    data = RGBDDataModule(config)
    data.setup("fit")
    total_steps = data.total_steps()
    if progress is not None:
        _require_length(config, progress, total_steps)
        if progress.steps == total_steps and has_answers_of(config.output, progress.steps):
            _log.warning(
                "%s is finished, after %d steps, and stays as it is; --resume --extend with a larger --max-steps "
                "makes it longer",
                config.output,
                total_steps,
            )
            return config.output
    pl.seed_everything(config.seed, verbose=False)
    module = SPDModule(config)
    if progress is None:
        _set_first_weights(module.model, config)
    if is_first_process():
        _summarize(data)
    # Read now: when the run ends, the checkpoint that it started from may be gone.
    run = Run(config, origin_of(config), SaveState(config.output, config.checkpoint_every, total_steps, signals))
    trainer = _trainer(run, total_steps)
    if trainer.is_global_zero:
        write_config(config)
    if progress is not None and progress.steps == total_steps:
        _finish(run, module, data, trainer)
        return config.output
    trainer.fit(
        module,
        datamodule=data,
        ckpt_path=config.output / RESUME_FILE if progress is not None else None,
        weights_only=True,
    )
    if trainer.is_global_zero:
        save_answers(run, module, trainer.global_step, validation_figures(trainer) or run.state.validation)
        draw_curves(config.output / LOG_FOLDER, config.output / "curves.png")
    return config.output


def _summarize(data: RGBDDataModule) -> None:
    """Say what the run learns from, and refuse what it could learn nothing from."""
    assert data.train_frames is not None, "setup comes first"
    sets = data.train_frames
    for name, frames in zip(sets.names, sets.sets, strict=True):
        summary = summarize([frames])
        _log.warning("training on %s%s", f"{name}: " if len(sets.sets) > 1 else "", summary)
        for warning in summary.warnings:
            warnings.warn(warning, stacklevel=2)


def _finish(run: Run, module: SPDModule, data: RGBDDataModule, trainer: pl.Trainer) -> None:
    """What was left to do of a run that ended after its last step: to validate and save what it has learnt."""
    state = read_state(run.config.output / RESUME_FILE, checked=False)
    # Of a run with averaged weights these are the averages, and the others lie beside.
    load_state(module, state["state_dict"], run.config.output / RESUME_FILE)
    run.state.load_state_dict(state["callbacks"].get("SaveState", {}))
    figures: Mapping[str, float] = run.state.validation
    if data.val_frames is not None:
        trainer.validate(module, datamodule=data, verbose=False)
        figures = validation_figures(trainer)
    if trainer.is_global_zero:
        save_answers(run, module, state["global_step"], figures)
        draw_curves(run.config.output / LOG_FOLDER, run.config.output / "curves.png")


def _require_length(config: TrainConfig, progress: Progress, total_steps: int) -> None:
    if progress.steps > total_steps:
        raise ValueError(
            f"{config.output} is at step {progress.steps} already, beyond the {total_steps} that are asked for"
        )
    before = progress.total_steps
    if before not in (None, total_steps) and not config.extend:
        raise ValueError(
            f"{config.output} is a run of {before} steps and its data now make {total_steps}; go on with --extend, or "
            "with the data as they were"
        )


def _where_it_stands(config: TrainConfig, stop: Stopped) -> str:
    """And how to go on, in one line."""
    try:
        progress = read_progress(config.output, checked=False)
    except (ValueError, OSError):
        return f"stopped by {stop.signal_name} before the first save; {config.output} can be started again"
    of = "" if progress.total_steps is None else f" of {progress.total_steps}"
    return (
        f"stopped by {stop.signal_name} after step {progress.steps}{of}, saved in {config.output / RESUME_FILE}; "
        "continue with --resume"
    )


def _set_first_weights(network: DepthNetwork, config: TrainConfig) -> None:
    # A recipe's own default of pretrained weights gives way to a checkpoint, which has an encoder of its own.
    if config.init is not None:
        load_weights(network, config.init)
    elif config.model.pretrained:
        weights = network.encoder.load_pretrained()
        _log.warning("the encoder starts from %s, licence %s", weights.name, weights.licence)


class ProgressBar(TQDMProgressBar):
    """Lightning's bar on standard error, without the version of its log folder, which is always the same here."""

    def init_train_tqdm(self) -> Any:
        """Of the steps of an epoch."""
        with contextlib.redirect_stdout(sys.stderr):
            return super().init_train_tqdm()

    def init_validation_tqdm(self) -> Any:
        """Of a validation."""
        with contextlib.redirect_stdout(sys.stderr):
            return super().init_validation_tqdm()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        # Left open they would be drawn once more, after the line that says what happened.
        for bar in (self._val_progress_bar, self._train_progress_bar):
            if bar is not None:
                bar.close()

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        return {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}


class SaveForAnswering(pl.Callback):
    """Writes the checkpoint that answers after each validation, so that a run can be tried before it ends.

    It holds the weights that were validated, so this comes before a callback that takes their average away again.
    """

    def __init__(self, run: Run) -> None:
        self.run = run

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SPDModule)
        if trainer.is_global_zero and trainer.state.fn == "fit":
            save_answers(self.run, pl_module, trainer.global_step, validation_figures(trainer))


def _trainer(run: Run, total_steps: int) -> pl.Trainer:
    config = run.config
    return pl.Trainer(
        accelerator=config.accelerator,
        devices=config.devices,
        strategy="ddp" if config.devices > 1 else "auto",
        precision=_precision(config),
        # Neither a scheduler's environment nor the current folder has a say in the run.
        plugins=[LightningEnvironment(), StateFiles()],
        default_root_dir=config.output,
        max_steps=total_steps,
        max_epochs=-1,
        gradient_clip_val=config.optimizer.gradient_clip,
        check_val_every_n_epoch=config.validate_every or None,
        limit_val_batches=None if config.validate_every else 0,
        num_sanity_val_steps=0,
        log_every_n_steps=config.log_every,
        logger=TensorBoardLogger(str(config.output), name="", version=LOG_FOLDER),
        callbacks=[
            SaveForAnswering(run),
            *_averaging(config),
            Watch(config.log_every),
            LearningRateMonitor("step"),
            ProgressBar(),
            run.state,
        ],
        enable_checkpointing=True,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def _averaging(config: TrainConfig) -> list[pl.Callback]:
    """One kernel for all weights, and the fast one."""
    if config.ema_decay is None:
        return []
    return [Averaging(multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay))]


def _precision(config: TrainConfig) -> Any:
    if config.precision == "auto":
        on_cuda = config.accelerator in ("auto", "cuda") and torch.cuda.is_available()
        return "bf16-mixed" if on_cuda and torch.cuda.is_bf16_supported() else "32-true"
    return "bf16-mixed" if config.precision == "bfloat16" else "32-true"


def _quieten_lightning() -> None:
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # It advises on workers, on intervals of logs and on folders that are as they should be.
    warnings.filterwarnings("ignore", module=r"lightning\.")
    warnings.filterwarnings("ignore", message=".*isinstance.*LeafSpec.*")
