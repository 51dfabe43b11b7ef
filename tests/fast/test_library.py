"""Compiling, keeping and doing without the kernels."""

from __future__ import annotations

import errno
import os
import shlex
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hatchling.builders.wheel import WheelBuilder

from spd.fast import library as module
from spd.fast import operators
from spd.fast.operators.brgemm import multiplied_types


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """An empty cache folder, and nothing remembered; compiling need not take its time over quick kernels."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "_FLAGS", (*module._FLAGS, "-O0"))
    module.library.cache_clear()
    multiplied_types.cache_clear()
    yield
    module.library.cache_clear()
    multiplied_types.cache_clear()


def test_their_sources_lie_in_the_wheel():
    builder = WheelBuilder(str(Path(__file__).parents[2]))
    shipped = {Path(file.distribution_path).name for file in builder.recurse_included_files()}
    assert {source.name for source in (Path(module.__file__).parent / "kernels").iterdir()} <= shipped


@pytest.mark.usefixtures("kernels")
def test_they_are_compiled_once_and_kept(monkeypatch: pytest.MonkeyPatch):
    module.library.cache_clear()
    assert module.library() is not None
    (kept,) = module.cache_folder().iterdir()
    module.library.cache_clear()
    monkeypatch.setattr(module, "_compile", lambda *_: pytest.fail("compiled again"))
    assert module.library() is not None
    assert list(module.cache_folder().iterdir()) == [kept]


@pytest.mark.usefixtures("kernels")
def test_the_compiler_may_be_a_command_with_options(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CXX", shlex.join([*(module.find_compiler() or []), "-DNAMED"]))
    module.library.cache_clear()
    assert module.library() is not None


@pytest.mark.usefixtures("kernels")
def test_a_change_of_the_flags_compiles_anew(monkeypatch: pytest.MonkeyPatch):
    module.library.cache_clear()
    module.library()
    monkeypatch.setattr(module, "_FLAGS", (*module._FLAGS, "-DANOTHER"))
    module.library.cache_clear()
    assert module.library() is not None
    assert len(list(module.cache_folder().iterdir())) == 2


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize(
    "error", [PermissionError("denied"), OSError(errno.EROFS, "read-only"), RuntimeError("no home")]
)
def test_without_a_place_to_keep_them_they_are_compiled_for_the_process(error, monkeypatch: pytest.MonkeyPatch):
    def refuse():
        raise error

    monkeypatch.setattr(module, "cache_folder", refuse)
    module.library.cache_clear()
    assert module.library() is not None


@pytest.mark.parametrize("setting", [("SPD_NATIVE", "0"), ("CXX", "no-such-compiler")])
def test_there_are_none_where_they_are_switched_off_or_nothing_compiles(setting, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(*setting)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert module.library() is None
    with torch.inference_mode():
        assert not operators.is_supported(torch.zeros(1), 16)


def test_a_compiler_that_fails_is_told_of_once_and_answers_come_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\necho no such header >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    with pytest.warns(RuntimeWarning, match=r"could not be compiled.*no such header.*SPD_NATIVE=0"):
        assert module.library() is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert module.library() is None
    assert not os.path.exists(module.cache_folder()) or not list(module.cache_folder().iterdir())
