"""How a quick module takes the place of a plain one."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

Quick = TypeVar("Quick", bound="Adopting")


class Adopting(nn.Module):
    """First base of a quick module; the plain module's class is the second."""

    @classmethod
    def from_module(cls: type[Quick], plain: nn.Module) -> Quick:
        """The quick module with the parameters, buffers, parts and settings of ``plain``, which is left as it is."""
        quick = cls.__new__(cls)
        for name, value in vars(plain).items():
            # The registries of parts, parameters and buffers: what is put into one of the two is not to show in both.
            vars(quick)[name] = value.copy() if isinstance(value, dict) else value
        return quick
