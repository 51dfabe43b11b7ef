"""A canary: shapes in annotations are checked under pytest."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from spd.camera import Intrinsics, lift
from spd.coordinates import read_bilinear


def test_wrong_shape_of_a_tensor_is_refused() -> None:
    with pytest.raises(TypeCheckError):
        read_bilinear(torch.zeros(1, 3, 4, 6), torch.zeros(1, 5, 3))


def test_two_arguments_that_disagree_are_refused() -> None:
    with pytest.raises(TypeCheckError):
        lift(np.zeros((4, 2)), np.zeros(5), Intrinsics(1.0, 1.0, 0.0, 0.0))
