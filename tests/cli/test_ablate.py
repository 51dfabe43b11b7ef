from __future__ import annotations

import json
from pathlib import Path

import pytest

from spd.cli.main import main
from spd.data.rooms import write_rooms


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rooms")
    write_rooms(folder, num=10, seed=0, size=(64, 96), workers=1)
    return folder


def command(rooms: Path, output: Path, more: str = "") -> list[str]:
    line = f"ablate --data {rooms} --output {output} --crop none --size 64 96 --steps 1 --batch-size 2 --num-queries 8"
    return f"{line} --scored-queries 64 --variants no-canvas --seeds 0 {more}".split()


def test_rows_are_trained_once_and_make_a_table(
    rooms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "ablations"
    assert main(command(rooms, folder, "--json")) == 0
    output = capsys.readouterr()
    baseline, without = json.loads(output.out)
    assert (baseline["variant"], without["variant"], without["seeds"]) == ("baseline", "no-canvas", 1)
    assert "training 2 of 2: no-canvas, seed 0" in output.err
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["baseline-0.json", "no-canvas-0.json", "table.md"]
    row = json.loads((folder / "no-canvas-0.json").read_text())
    assert row["scores"]["64"]["abs_rel"] == without["abs_rel K=64"]
    difference = without["abs_rel K=64"] - baseline["abs_rel K=64"]
    assert without["Δ abs_rel K=64"] == f"({difference:+.4f} ± inf)"

    (folder / "baseline-0.json").unlink()
    written = (folder / "no-canvas-0.json").stat().st_mtime_ns
    assert main(command(rooms, folder)) == 0
    output = capsys.readouterr()
    assert "training 1 of 1: baseline, seed 0" in output.err
    assert (folder / "no-canvas-0.json").stat().st_mtime_ns == written
    assert "no canvas" in output.out
    assert "| no-canvas | no canvas | 1 |" in (folder / "table.md").read_text()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("--variants canvas-median", "variants must be of baseline, fixed-offsets, "),
        ("--table-only", "has no finished rows"),
        ("--val-split nowhere", "no frame in split nowhere"),
        ("--size 60 96", "train_size must be (height, width) in multiples of 32"),
        ("--scored-queries 0", "num_queries must be at least 1"),
        ("--seeds -1", "seed must be at least 0"),
    ],
)
def test_what_a_user_may_get_wrong(
    more: str, told: str, rooms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "ablations"
    assert main(command(rooms, folder, more)) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("spd: ")]
    assert len(errors) == 1
    assert told in errors[0]
    assert not folder.exists()
