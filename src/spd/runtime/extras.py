"""The packages of each engine, which a plain install does not have."""

from __future__ import annotations

from importlib.util import find_spec

from spd.runtime.package import Engine

_RUNNING: dict[Engine, tuple[str, ...]] = {"onnx": ("onnxruntime",), "openvino": ("openvino",)}
_EXPORTING: dict[Engine, tuple[str, ...]] = {"onnx": ("onnx", "onnxscript"), "openvino": ("onnx", "onnxscript")}


def require(engine: Engine, *, exporting: bool = False) -> None:
    """Raise ``ValueError``, with the command that installs them, unless the engine's packages are there."""
    needed = (*_RUNNING[engine], *(_EXPORTING[engine] if exporting else ()))
    if missing := [name for name in needed if find_spec(name) is None]:
        raise ValueError(f"{engine} needs {', '.join(missing)}: pip install 'spd-depth[{engine}]'")
