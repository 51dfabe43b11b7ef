from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from spd.cli.main import main
from spd.data import rooms


def test_options_reach_write_rooms(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: dict[str, Any] = {}

    def write_rooms(output: Path, *, progress: Any, **settings: Any) -> Path:
        seen.update(output=output, **settings)
        progress(2)
        progress(1)
        return output

    monkeypatch.setattr(rooms, "write_rooms", write_rooms)
    line = f"data rooms {tmp_path}/out --num 3 --seed 7 --size 96 160 --near 0.25 --workers 1"
    assert main(line.split()) == 0
    assert seen == {"output": tmp_path / "out", "num": 3, "seed": 7, "size": (96, 160), "near": 0.25, "workers": 1}
    output = capsys.readouterr()
    assert output.out == ""
    assert "3/3" in output.err
    assert f"wrote 3 rooms to {tmp_path}/out" in output.err


def test_rooms_are_written(tmp_path: Path) -> None:
    folder = tmp_path / "rooms"
    assert main(["data", "rooms", str(folder), "--num", "3", "--size", "64", "96", "--workers", "1"]) == 0
    with (folder / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    assert all((folder / row["image"]).is_file() and (folder / row["depth"]).is_file() for row in rows)


@pytest.mark.parametrize("options", ["--num 0", "--num 3 --size 0 96", "--num 3 --near 1.5"])
def test_bad_options_write_nothing(options: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "rooms", str(tmp_path / "rooms"), *options.split()]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("spd: error: ")]
    assert not any(tmp_path.iterdir())
