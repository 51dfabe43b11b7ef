"""Whether a graph is being exported."""

from __future__ import annotations

import torch


@torch.compiler.assume_constant_result
def is_exporting() -> bool:
    """Whether ``torch.export`` is at work. Asked directly, PyTorch 2.8 says so while it compiles, too."""
    return torch.compiler.is_exporting()
