"""A checkpoint is a folder: ``model.safetensors``, ``config.json`` and the model card ``README.md``.

Loading is strict and executes nothing that the files hold: safetensors are arrays and names, JSON is values.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from spd.bundled import BUNDLED, bundled_folder
from spd.checkpoint_files import (
    CARD_FILE,
    CONFIG_FILE,
    WEIGHTS_FILE,
    checksum_of,
    finish_interrupted_save,
    refuse_files_of_others,
    waiting_config,
)
from spd.config import Architecture, Interaction, ModelConfig
from spd.estimate import IntervalFactors
from spd.files import expanded, remove_leftovers, write_files
from spd.messages import one_line
from spd.model.network import DepthNetwork
from spd.model.spd import SPD
from spd.model_card import model_card

FORMAT = 1
"""Version of the folder's layout; rises when an older reader could misread it."""
_HUB_PREFIX = "hf://"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

_SCALE_HEAD = "scale_head."
"""What the names of its weights begin with."""

_LOADERS: Mapping[Architecture, str] = {"spd": "spd.load", "bilinear": "spd.baselines.bilinear_mlp.load"}

Network = TypeVar("Network", bound=DepthNetwork)


def save(
    model: DepthNetwork,
    folder: str | Path,
    *,
    provenance: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    notes: str = "",
) -> None:
    """Write ``model`` as a checkpoint, in place of one that the folder may hold.

    Each file is written beside its place and then moved there, ``config.json`` last, so that a reader never meets half
    a file; one that comes between two moves reads the configuration that is still to be moved.

    Args:
        model: the model.
        folder: made if it does not exist; other files in it are left alone.
        provenance: where the weights come from, as JSON values by name (data, steps, seed, metrics…). Kept in
            ``config.json`` and listed in the model card.
        dtype: precision of the parameters in the file, ``torch.float16`` for half the size; None is that which they
            have. Loading brings them back to that of the model. Statistics of batch norms keep theirs.
        notes: Markdown for the model card, after its section on training: figures, known failures.

    Raises:
        ValueError: ``folder`` is a file or has files of those names that are of no checkpoint, or ``provenance`` holds
            something that JSON has no word for.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"folder must be a folder for the checkpoint, got the file {folder}")
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(f"dtype must be a floating type of torch such as torch.float16, got {dtype!r}")
    finish_interrupted_save(folder)
    refuse_files_of_others(folder)
    remove_leftovers(folder)
    weights = safetensors.torch.save(_state_of(model, dtype), metadata={"format": "pt"})
    config = {
        "format": FORMAT,
        "spd_version": version("spd-depth"),
        "model": model.config.to_json(),
        "checksum": checksum_of(weights),
        "provenance": dict(provenance or {}),
    }
    if model.intervals is not None:
        config["intervals"] = model.intervals.to_json()
    try:
        config_text = json.dumps(config, indent=2, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"provenance must hold JSON values only: {error}") from None
    parameters = sum(parameter.numel() for parameter in model.parameters())
    card = model_card(model.config, parameters, config["provenance"], checksum=config["checksum"], notes=notes)
    folder.mkdir(parents=True, exist_ok=True)
    write_files(
        {
            folder / WEIGHTS_FILE: weights,
            folder / CARD_FILE: card.encode(),
            folder / CONFIG_FILE: f"{config_text}\n".encode(),
        }
    )


def _state_of(model: DepthNetwork, dtype: torch.dtype | None) -> dict[str, Tensor]:
    """Parameters in ``dtype``, all else as it is, on the CPU."""
    weights_of = {name for name, _ in model.named_parameters()}
    return {
        name: tensor.detach().to("cpu", (dtype if name in weights_of else None) or tensor.dtype).contiguous()
        for name, tensor in model.state_dict().items()
    }


def load_model(
    source: str | Path, device: str | torch.device = "cpu", *, interaction: Interaction | None = None
) -> SPD:
    """The SPD of a checkpoint, in evaluation mode; see :func:`load_network`."""
    return load_network(source, SPD, device, interaction=interaction)


def load_network(
    source: str | Path,
    kind: type[Network],
    device: str | torch.device = "cpu",
    *,
    interaction: Interaction | None = None,
) -> Network:
    """The network of a checkpoint, in evaluation mode.

    Args:
        source: the folder, or ``owner/name`` (also ``hf://owner/name``) of a repository on the Hugging Face hub, or
            ``spd-lite``, the checkpoint that comes with SPD. A folder of that name goes before either.
        kind: the class whose weights the checkpoint holds.
        device: where the weights go.
        interaction: None is the mode that the checkpoint was trained in. Another one runs the same weights, as an
            experiment: its answers are worse, and a ``UserWarning`` says so.

    Raises:
        ValueError: the folder or one of its files is missing, damaged, changed, of another version, or of another
            architecture.
    """
    folder = locate(source)
    config = read_config(folder)
    model_config = _model_config(folder, config["model"])
    if (found := model_config.architecture) != kind.architecture:
        raise ValueError(
            f"checkpoint {folder} has the architecture {found}, not {kind.architecture}; {_LOADERS[found]} reads it"
        )
    if interaction not in (None, model_config.interaction):
        warnings.warn(
            f"checkpoint {folder} was trained with {model_config.interaction} queries; with {interaction} ones its "
            "depths are less accurate",
            stacklevel=2,
        )
        model_config = model_config.with_interaction(interaction)
    # The random weights that it starts with are not to use up the caller's random numbers.
    with torch.random.fork_rng(devices=[]):
        model = _build(folder, kind, model_config)
    _fill(model, folder, "its configuration")
    model.intervals = _intervals(folder, config.get("intervals"))
    return model.to(device).eval()


def load_weights(network: DepthNetwork, source: str | Path) -> None:
    """Give a network the weights of a checkpoint, whatever the rest of its configuration says.

    Only one of the two may say how sure it is (``log_std``): that head then keeps its weights, or is left out.

    Args:
        network: whose parameters are overwritten.
        source: see :func:`load_network`.

    Raises:
        ValueError: as of :func:`load_network`, or the tensors differ in name or shape.
    """
    _fill(network, locate(source), "a network of another configuration than its own", optional=_SCALE_HEAD)


def _fill(network: DepthNetwork, folder: Path, what: str, *, optional: str | None = None) -> None:
    state = _read_weights(folder, read_config(folder)["checksum"])
    if optional is not None:
        own = {name: tensor for name, tensor in network.state_dict().items() if name.startswith(optional)}
        if not own:
            state = {name: tensor for name, tensor in state.items() if not name.startswith(optional)}
        elif not any(name.startswith(optional) for name in state):
            state |= own
    _require_same_tensors(folder, expected=network.state_dict(), found=state, what=what)
    network.load_state_dict(state)


def locate(source: str | Path, files: Sequence[str] = (WEIGHTS_FILE, CONFIG_FILE, CARD_FILE)) -> Path:
    """The local folder of a checkpoint: one at hand, the bundled one by its name, or one downloaded from the hub.

    Args:
        source: see :func:`load_network`.
        files: what is downloaded of a repository; a local folder is not looked into.

    Raises:
        ValueError: there is no such folder, or the hub did not give one.
    """
    if not str(source):
        raise ValueError("a checkpoint is a folder or a name, got an empty text")
    folder = expanded(source)
    if folder.is_dir():
        return folder
    if folder.exists():
        raise ValueError(f"a checkpoint is a folder with {CONFIG_FILE} and {WEIGHTS_FILE}, got the file {folder}")
    if str(source) == BUNDLED:
        return bundled_folder()
    name = str(source).removeprefix(_HUB_PREFIX) if isinstance(source, str) else ""
    if not _HUB_NAME.fullmatch(name):
        raise ValueError(f"no checkpoint folder {source}")

    import huggingface_hub

    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=list(files)))
    except Exception as error:  # Which exceptions the client lets through depends on its version's HTTP library.
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ValueError(f"no folder {source} here, and the Hugging Face hub gave none: {reason}") from error


def read_config(folder: Path) -> dict[str, Any]:
    """What ``config.json`` of a checkpoint says: format, spd_version, model, checksum and provenance.

    Raises:
        ValueError: it is missing, is not a checkpoint's configuration, or is of another format.
    """
    path = waiting_config(folder) or folder / CONFIG_FILE
    if not path.is_file():
        exported = folder / "runtime.json"
        hint = "; it is an exported model, for --runtime onnx or openvino" if exported.is_file() else ""
        raise ValueError(f"checkpoint {folder} has no {CONFIG_FILE}{hint}")
    try:
        config = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(config, dict) or "format" not in config:
        raise ValueError(f"{path} is not the configuration of an SPD checkpoint: it names no format")
    if config["format"] != FORMAT:
        writer = config.get("spd_version", "another version")
        raise ValueError(
            f"{path} has format {config['format']}, written by SPD {writer}; this SPD reads format {FORMAT}"
        )
    for name, kind in (("model", dict), ("checksum", str), ("provenance", dict)):
        if not isinstance(config.get(name), kind):
            raise ValueError(f"{path} must have {name!r}, a JSON {'object' if kind is dict else 'string'}")
    return config


def _model_config(folder: Path, values: dict[str, Any]) -> ModelConfig:
    """The configuration of those values; a wrong one is told with the file it is in."""
    try:
        return ModelConfig.from_json(values)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{folder / CONFIG_FILE}: {error}") from None


def _intervals(folder: Path, values: Any) -> IntervalFactors | None:
    """The factors of those values; wrong ones are told with the file they are in."""
    try:
        return IntervalFactors.from_json(values)
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG_FILE}: {error}") from None


def _build(folder: Path, kind: type[Network], config: ModelConfig) -> Network:
    """The network with random weights; a value that no encoder or layer takes is told with the file it is in."""
    try:
        return kind(config)
    except (ValueError, TypeError, RuntimeError, MemoryError) as error:
        raise ValueError(f"{folder / CONFIG_FILE}: {one_line(error)}") from None


def _read_weights(folder: Path, checksum: str) -> dict[str, Tensor]:
    """The tensors of the weights, by name, once their bytes are what ``checksum`` says."""
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise ValueError(f"checkpoint {folder} has no {WEIGHTS_FILE}")
    contents = path.read_bytes()
    if (found := checksum_of(contents)) != checksum:
        raise ValueError(
            f"{path} is not what {CONFIG_FILE} says: its checksum is {found[:19]}…, not {checksum[:19]}…; "
            "the file was changed or its download is incomplete"
        )
    try:
        return safetensors.torch.load(contents)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file: {error}") from None


def _require_same_tensors(folder: Path, *, expected: dict[str, Tensor], found: dict[str, Tensor], what: str) -> None:
    """Raise ``ValueError`` that names the tensors which differ in name or shape."""
    shapes = [
        f"{name} {tuple(found[name].shape)} in place of {tuple(expected[name].shape)}"
        for name in expected.keys() & found.keys()
        if found[name].shape != expected[name].shape
    ]
    problems = {
        "lacks": sorted(expected.keys() - found.keys()),
        "has unexpected": sorted(found.keys() - expected.keys()),
        "has another shape of": sorted(shapes),
    }
    if told := [f"{what} {_some(names)}" for what, names in problems.items() if names]:
        raise ValueError(f"{folder / WEIGHTS_FILE} does not fit {what}: it {'; '.join(told)}")


def _some(names: list[str]) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(names[:4])
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"
