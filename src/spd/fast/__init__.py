"""The networks of :mod:`spd.model`, quicker: the same modules in fewer passes over memory, by kernels on a CPU."""

from spd.fast.quicken import quicken

__all__ = ["quicken"]
