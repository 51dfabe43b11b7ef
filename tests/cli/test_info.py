from __future__ import annotations

import json
from pathlib import Path

import pytest

import spd
from spd.cli.main import main
from spd.config import ModelConfig
from spd.model.spd import SPD


def test_json_is_one_document_with_totals(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("info --preset tiny --size 480 640 --json".split()) == 0
    output = capsys.readouterr()
    document = json.loads(output.out)
    assert output.err == ""
    assert (document["preset"], document["size"], document["num_queries"]) == ("tiny", [480, 640], 256)
    totals = document["totals"]
    assert totals["parameters"] == sum(row["parameters"] for row in document["components"]) == 40_183_785
    assert totals["macs"] == sum(row["macs"] for row in document["components"])
    assert totals["encode"]["macs"] + totals["decode"]["macs"] == totals["macs"]
    assert totals["plan_parameters"] == 40_901_000
    encoder = document["components"][0]
    assert (encoder["name"], encoder["stage"], encoder["plan_macs"]) == ("encoder", "encode", 27_500_000_000)


@pytest.mark.parametrize(("more", "macs"), [("", "39.206 G"), ("--interaction joint", "37.628 G")])
def test_table_shows_components_beside_the_plan(more: str, macs: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(f"info --size 480 640 {more}".split()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "tiny" in lines[0]
    assert "640x480" in lines[0]
    (total,) = [line for line in lines if line.startswith("│ total ")]
    assert [cell.strip() for cell in total.strip("│").split("│")][1:5] == [
        "40,183,785",
        "40,901 K",
        macs,
        "35.400 G",
    ]


def test_a_model_of_other_sizes_has_no_plan_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("info --preset atto".split()) == 0
    output = capsys.readouterr().out
    assert "320x256" in output
    assert "plan" not in output


def test_presets_may_be_written_with_a_dash(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("info --preset plan-v14 --num-queries 1 --size 64 96 --json".split()) == 0
    with_dash = json.loads(capsys.readouterr().out)
    assert main("info --preset plan_v14 --num-queries 1 --size 64 96 --json".split()) == 0
    assert json.loads(capsys.readouterr().out)["totals"] == with_dash["totals"]


def test_the_model_of_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = ModelConfig.atto(train_size=(64, 96))
    model = SPD(config)
    spd.save(model, tmp_path)
    assert main(["info", "--checkpoint", str(tmp_path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["checkpoint"] == str(tmp_path)
    assert document["size"] == [64, 96]
    assert document["totals"]["parameters"] == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--preset huge", "tiny, plan_v14, nano, atto"),
        ("--num-queries 0", "num_queries"),
        ("--size 0 64", "size"),
        ("--preset tiny --checkpoint x", "not both"),
        ("--checkpoint no/such/folder", "no/such/folder"),
    ],
)
def test_what_a_user_may_get_wrong(options: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", *options.split()]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert told in output.err
