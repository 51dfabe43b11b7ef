"""A training run from its configuration to a checkpoint that answers."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, TQDMProgressBar, WeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger
from torch.optim.swa_utils import get_ema_multi_avg_fn

from spd.allocator import keep_freed_memory
from spd.checkpoint import WEIGHTS_FILE, load_weights, locate, read_config, save
from spd.data.datamodule import RGBDDataModule
from spd.files import write_files
from spd.model.network import DepthNetwork
from spd.train_config import TrainConfig
from spd.training.curves import draw_curves
from spd.training.diagnostics import Watch
from spd.training.module import SPDModule

_log = logging.getLogger(__name__)

RESUME_FILE = "last.ckpt"
CONFIG_FILE = "train.json"
LOG_FOLDER = "logs"
# What may change between a run and its continuation without changing what is learnt.
_FREE_FIELDS = {"output", "resume", "accelerator", "log_every", "checkpoint_every", "validate_every"}
_FREE_DATA_FIELDS = {"root", "num_workers", "terms", "cache"}


def train(config: TrainConfig) -> Path:
    """Train and write the checkpoint to ``config.output``.

    The folder then holds a checkpoint that :func:`spd.load` reads, ``train.json`` with the resolved configuration,
    ``last.ckpt`` to resume from, TensorBoard's files under ``logs``, and the curves as a picture.

    Returns:
        The folder.

    Raises:
        ValueError: the data cannot be read; the folder holds a run that ``config.resume`` does not continue, or one
            whose configuration differs; pretrained weights cannot be had, or those of ``config.init`` do not fit.
        NonFiniteLossError: the loss became NaN or infinite.
    """
    _prepare_folder(config)
    keep_freed_memory()
    _quieten_lightning()
    data = RGBDDataModule(config)
    data.setup("fit")
    pl.seed_everything(config.seed, verbose=False)
    module = SPDModule(config)
    if not config.resume:
        _set_first_weights(module.model, config)
    # Read now: when the run ends, the checkpoint that it started from may be gone.
    origin = _origin(config)
    trainer = _trainer(config, origin)
    if trainer.is_global_zero:
        _write_config(config)
    trainer.fit(
        module,
        datamodule=data,
        ckpt_path=config.output / RESUME_FILE if config.resume else None,
        weights_only=True,
    )
    if trainer.is_global_zero:
        save(module.model, config.output, provenance=_provenance(config, origin, trainer))
        draw_curves(config.output / LOG_FOLDER, config.output / "curves.png")
    return config.output


def _set_first_weights(network: DepthNetwork, config: TrainConfig) -> None:
    if config.init is not None and config.model.pretrained:
        raise ValueError(f"init and model.pretrained both say where weights start, got init {config.init}; give one")
    if config.model.pretrained:
        weights = network.encoder.load_pretrained()
        _log.warning("the encoder starts from %s, licence %s", weights.name, weights.licence)
    if config.init is not None:
        load_weights(network, config.init)


class ProgressBar(TQDMProgressBar):
    """Lightning's bar without the version of its log folder, which is always the same here."""

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        return {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}


class SaveForAnswering(pl.Callback):
    """Writes the checkpoint that answers after each validation, so that a run can be tried before it ends.

    It holds the weights that were validated, so this comes before a callback that takes their average away again.
    """

    def __init__(self, config: TrainConfig, origin: Mapping[str, Any]) -> None:
        self.config = config
        self.origin = origin

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SPDModule)
        if trainer.is_global_zero and not trainer.sanity_checking:
            save(pl_module.model, self.config.output, provenance=_provenance(self.config, self.origin, trainer))


def _trainer(config: TrainConfig, origin: Mapping[str, Any]) -> pl.Trainer:
    logger = TensorBoardLogger(str(config.output), name="", version=LOG_FOLDER)
    resume_file = ModelCheckpoint(
        dirpath=config.output,
        filename=Path(RESUME_FILE).stem,
        every_n_train_steps=config.checkpoint_every,
        enable_version_counter=False,
        save_on_train_epoch_end=False,
    )
    return pl.Trainer(
        accelerator=config.accelerator,
        devices=config.devices,
        strategy="ddp" if config.devices > 1 else "auto",
        precision=_precision(config),
        max_steps=-1 if config.max_steps is None else config.max_steps,
        max_epochs=config.epochs if config.max_steps is None else -1,
        gradient_clip_val=config.optimizer.gradient_clip,
        check_val_every_n_epoch=config.validate_every or None,
        limit_val_batches=None if config.validate_every else 0,
        num_sanity_val_steps=0,
        log_every_n_steps=config.log_every,
        logger=logger,
        callbacks=[
            resume_file,
            SaveForAnswering(config, origin),
            *_averaging(config),
            Watch(config.log_every),
            LearningRateMonitor("step"),
            ProgressBar(),
        ],
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def _averaging(config: TrainConfig) -> list[pl.Callback]:
    """One kernel for all weights, and the fast one."""
    if config.ema_decay is None:
        return []
    return [WeightAveraging(multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay))]


def _precision(config: TrainConfig) -> Any:
    if config.precision == "auto":
        on_cuda = config.accelerator in ("auto", "cuda") and torch.cuda.is_available()
        return "bf16-mixed" if on_cuda and torch.cuda.is_bf16_supported() else "32-true"
    return "bf16-mixed" if config.precision == "bf16" else "32-true"


def _prepare_folder(config: TrainConfig) -> None:
    stored = config.output / CONFIG_FILE
    resume_file = config.output / RESUME_FILE
    if not config.resume:
        # A run that died before its first write leaves only train.json, and may start anew.
        if (resume_file.exists() or (config.output / WEIGHTS_FILE).exists()) and _is_first_process():
            raise ValueError(
                f"{config.output} already holds a run; continue it with --resume or choose another --output"
            )
        return
    if not resume_file.is_file() or not stored.is_file():
        raise ValueError(f"{config.output} has nothing to resume: expected {RESUME_FILE} and {CONFIG_FILE} in it")
    before, now = _read_config(stored), _as_json(config)
    if changed := sorted(_fixed_differences(before, now)):
        raise ValueError(
            f"--resume continues a run as it was configured, but these fields differ: {', '.join(changed)}"
        )


def _read_config(stored: Path) -> dict[str, Any]:
    """The configuration of a run; a field that came after it was begun had what is its default now."""
    defaults = _as_json(TrainConfig())
    try:
        config = json.loads(stored.read_text("utf-8"))
        filled = {name: _filled_up(config.get(name, value), value) for name, value in defaults.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{stored} is not the configuration of a run: {error}") from None
    return {**config, **filled}


def _filled_up(value: Any, default: Any) -> Any:
    return {**default, **value} if isinstance(default, dict) else value


def _is_first_process() -> bool:
    """Whether this process started the others: Lightning gives those their rank in the environment."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _fixed_differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    differing = []
    for name in now.keys() | before.keys():
        old, new = before.get(name), now.get(name)
        if name in _FREE_FIELDS or old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            free = _FREE_DATA_FIELDS if name == "data" else set()
            inner = sorted((old.keys() | new.keys()) - free)
            differing += [f"{name}.{key}" for key in inner if old.get(key) != new.get(key)]
        else:
            differing.append(name)
    return differing


def _write_config(config: TrainConfig) -> None:
    config.output.mkdir(parents=True, exist_ok=True)
    write_files({config.output / CONFIG_FILE: (json.dumps(_as_json(config), indent=2) + "\n").encode()})


def _as_json(config: TrainConfig) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(config), default=str))


def _provenance(config: TrainConfig, origin: Mapping[str, Any], trainer: pl.Trainer) -> dict[str, Any]:
    # Of images that the run learns from, they would say nothing.
    validated = config.data.val_split not in config.data.train_splits
    figures = {
        name.removeprefix("val/"): round(float(value), 4)
        for name, value in trainer.callback_metrics.items()
        if name.startswith("val/") and validated
    }
    return {
        "data": " + ".join(config.data.set_names),
        **origin,
        "splits": list(config.data.train_splits),
        "train_fraction": config.data.train_fraction,
        "loss": asdict(config.loss),
        "steps": trainer.global_step,
        "batch_size": config.data.batch_size,
        "num_queries": config.data.num_queries,
        "seed": config.seed,
        "ema_decay": config.ema_decay,
        "pretrained_encoder": config.model.pretrained,
        "validation": figures,
        "torch": torch.__version__,
    }


def _origin(config: TrainConfig) -> dict[str, Any]:
    """The terms of all data that went into the weights, those of the checkpoint they started from too."""
    if config.init is None:
        return {"data_terms": _joined_terms(config.data.terms)}
    first = read_config(locate(config.init))
    terms = [_joined_terms(config.data.terms), first["provenance"].get("data_terms")]
    known = None if None in terms else "; ".join(dict.fromkeys("; ".join(map(str, terms)).split("; ")))
    started_from = {"checksum": first["checksum"], **first["provenance"]}
    return {"data_terms": known, "started_from": started_from}


def _joined_terms(terms: tuple[str, ...]) -> str | None:
    """Each once; None where none is known."""
    return "; ".join(dict.fromkeys(terms)) or None


def _quieten_lightning() -> None:
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.accelerators.cuda"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Two workers are right on two cores, whatever the number that Lightning suggests.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
    warnings.filterwarnings("ignore", message=".*isinstance.*LeafSpec.*")
