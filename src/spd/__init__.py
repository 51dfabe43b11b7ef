"""SPD, Sparse Query-Point Depth: how far away is this pixel?

An image is encoded once; any number of query pixels are then decoded from its features, in metres along the optical
axis, without a dense depth map.

Example::

    import spd

    predictor = spd.load()  # the checkpoint that comes with SPD, or the folder of another
    scene = predictor.encode("photo.jpg")
    depth_m = scene([(320, 240), (100, 50)])  # xy pixels of the photo -> (2,) float32 metres

Names are imported when they are first used, so that ``import spd`` brings no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spd.allocator import keep_freed_memory
    from spd.calibration import Calibration
    from spd.camera import Camera, Intrinsics, lift
    from spd.checkpoint import save
    from spd.config import ModelConfig
    from spd.measurement import Distance, Measurement
    from spd.model.memory import ImageMemory
    from spd.model.spd import SPD
    from spd.predictor import Predictor
    from spd.runtime.loading import load

    __version__: str

__all__ = [
    "SPD",
    "Calibration",
    "Camera",
    "Distance",
    "ImageMemory",
    "Intrinsics",
    "Measurement",
    "ModelConfig",
    "Predictor",
    "__version__",
    "keep_freed_memory",
    "lift",
    "load",
    "save",
]

_MODULE_OF = {
    "Distance": "spd.measurement",
    "Measurement": "spd.measurement",
    "Calibration": "spd.calibration",
    "Camera": "spd.camera",
    "ImageMemory": "spd.model.memory",
    "Intrinsics": "spd.camera",
    "ModelConfig": "spd.config",
    "Predictor": "spd.predictor",
    "SPD": "spd.model.spd",
    "keep_freed_memory": "spd.allocator",
    "lift": "spd.camera",
    "load": "spd.runtime.loading",
    "save": "spd.checkpoint",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value = version("spd-depth")
    elif name in _MODULE_OF:
        value = getattr(import_module(_MODULE_OF[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(globals().keys() | set(__all__))
