from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import pytest

from spd.cli import points


@pytest.mark.parametrize(
    "contents", [b"u,v\n1,2\n3.5,4\n", b"1,2\r\n3.5,4\r\n", b"1,2\r3.5,4", b" [[1, 2], [3.5, 4]]\n"]
)
def test_standard_input_is_csv_or_json(contents: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points.sys, "stdin", SimpleNamespace(buffer=io.BytesIO(contents)))
    assert [tuple(point) for point in points.read_points(Path("-"))] == [(1, 2), (3.5, 4)]


def test_what_is_wrong_with_standard_input_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points.sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"1,two\n1,2,3\n")))
    with pytest.raises(ValueError, match="standard input must have two numbers in a row or a header with u and v"):
        points.read_points(Path("-"))
