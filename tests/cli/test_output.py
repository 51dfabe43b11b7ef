from __future__ import annotations

import json

import pytest

from spd.cli.output import note, print_json, print_table, progress


def test_table_is_not_folded_and_takes_brackets_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    path = "room [1] " + "x" * 120
    print_table(["image", "depth_m"], [[path, "2.5"], ["b", "10.25"]], title="Depths", text_columns=("image",))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "Depths"
    rows = [line for line in lines if "2.5" in line or "10.25" in line]
    assert path in rows[0]
    # Numbers end in one column, words begin in one.
    assert rows[0].index("2.5") + 3 == rows[1].index("10.25") + 5
    assert rows[0].index("room") == rows[1].index("b")


def test_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    document = [{"u": 3.0, "v": 5.5, "depth_m": 2.25, "name": "tür"}]
    print_json(document)
    output = capsys.readouterr()
    assert json.loads(output.out) == document
    assert output.err == ""


def test_json_refuses_what_is_no_json() -> None:
    with pytest.raises(ValueError, match="JSON"):
        print_json({"depth_m": float("nan")})


def test_notes_and_progress_leave_standard_output_alone(capsys: pytest.CaptureFixture[str]) -> None:
    note("wrote 3 rooms")
    with progress("rooms", total=3) as advance:
        advance(1)
        advance(2)
    output = capsys.readouterr()
    assert output.out == ""
    assert "wrote 3 rooms\n" in output.err
    assert "3/3" in output.err
