"""Kernels need a C++ compiler: without one there is nothing to test here but that answers come all the same."""

from __future__ import annotations

import pytest

from spd.fast.library import find_compiler, library


@pytest.fixture
def kernels() -> None:
    if find_compiler() is None:
        pytest.skip("there is no C++ compiler for the kernels")
    assert library() is not None
