from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import spd.cli.predict
import spd.runtime.loading
from spd.checkpoint import save
from spd.cli.main import main
from spd.config import ModelConfig
from spd.model.spd import SPD
from spd.predictor import Predictor
from spd.runtime.loading import load
from spd.scene import Scene


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("predict") / "checkpoint"
    save(SPD(ModelConfig.atto(train_size=(64, 96), interaction="joint")), folder)
    return folder


class Asked:
    """Runs ``spd predict`` on an image and keeps what came back."""

    def __init__(self, image: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.image, self.checkpoint, self.capsys = image, checkpoint, capsys

    def __call__(self, *words: str, image: Path | None = None, checkpoint: str | None = None) -> tuple[int, str, str]:
        """Exit status, standard output and standard error."""
        before = ["predict", str(image or self.image), "--checkpoint", checkpoint or str(self.checkpoint)]
        status = main([*before, "--device", "cpu", *words])
        captured = self.capsys.readouterr()
        return status, captured.out, captured.err

    def depths(self, *words: str) -> list[dict[str, float]]:
        """What ``--json`` prints."""
        status, output, errors = self(*words, "--json")
        assert (status, errors) == (0, "")
        return json.loads(output)

    def refused(self, *words: str, **changes: Any) -> str:
        """The one line of a refusal, which prints nothing else and has status 2."""
        status, output, errors = self(*words, **changes)
        assert (status, output) == (2, "")
        assert errors.count("\n") == 1
        assert errors.startswith("spd: error: ")
        return errors.removeprefix("spd: error: ").rstrip()

    def refused_by(self, runtime: str) -> str:
        """As :meth:`refused`, of an engine other than PyTorch, which takes no device."""
        words = ["predict", str(self.image), "--checkpoint", str(self.checkpoint), "--points", "3,3"]
        status = main([*words, "--runtime", runtime])
        captured = self.capsys.readouterr()
        assert (status, captured.out, captured.err.count("\n")) == (2, "", 1)
        return captured.err


class Slope:
    """A stand-in for a model: depth grows to the right and downwards."""

    def encode(self, images: Tensor) -> Any:
        return None

    def decode(self, memory: Any, query_points: Tensor) -> Tensor:
        return 2 + query_points[..., 0] / 100 + query_points[..., 1] / 1000


@pytest.fixture
def ask_and_load(image_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> Asked:
    return Asked(image_path, checkpoint, capsys)


@pytest.fixture
def ask(ask_and_load: Asked, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Has the stand-in in place of the checkpoint; any other folder is really looked at."""
    slope = Predictor(model=Slope(), train_size=(64, 96), focal_length=80.0, device=torch.device("cpu"))

    def load_slope(folder: str, *, device: str, interaction: None, precision: str) -> Predictor:
        return slope if folder == str(ask_and_load.checkpoint) and device == "cpu" else load(folder, device=device)

    monkeypatch.setattr(spd.runtime.loading, "load", load_slope)
    return ask_and_load


def test_precision_is_that_of_the_products(ask_and_load: Asked) -> None:
    exact = load(ask_and_load.checkpoint, device="cpu")(ask_and_load.image, [(3, 3), (70, 40)])
    rounded = load(ask_and_load.checkpoint, device="cpu", precision="bfloat16")(ask_and_load.image, [(3, 3), (70, 40)])
    rows = ask_and_load.depths("--points", "3,3", "70,40", "--precision", "bfloat16")
    found = np.array([row["depth_m"] for row in rows])
    np.testing.assert_allclose(found, rounded, rtol=1e-6)
    np.testing.assert_allclose(found, exact, rtol=0.02)
    assert not np.allclose(found, exact, rtol=1e-6)


def test_json_is_what_the_predictor_answers(ask_and_load: Asked) -> None:
    ask, points = ask_and_load, [(-0.4, 3.0), (70.25, 40.0), (3.0, 2.5)]
    rows = ask.depths("--points", "-0.4,3", "70.25,40", "3,2.5")
    assert [(row["u"], row["v"]) for row in rows] == points
    assert [sorted(row) for row in rows] == [["depth_m", "u", "v"]] * 3
    expected = load(ask.checkpoint, device="cpu")(ask.image, points)
    np.testing.assert_allclose([row["depth_m"] for row in rows], expected, atol=1e-5)


def test_table(ask: Asked) -> None:
    rows = ask.depths("--points", "70.25,40", "3,2")
    status, output, errors = ask("--points", "70.25,40", "3,2")
    assert (status, errors) == (0, "")
    for u, v, row in (("70.25", "40", rows[0]), ("3", "2", rows[1])):
        line = next(line for line in output.splitlines() if f" {u} " in line)
        assert [cell.strip() for cell in line.strip("│ ").split("│")] == [u, v, f"{row['depth_m']:.3f}"]


def test_intrinsics_scale_the_depth(ask: Asked) -> None:
    assumed, near, far = (
        ask.depths("--points", "70,40", *words)[0]["depth_m"]
        for words in ((), ("--intrinsics", "60", "60", "-3", "20"), ("--intrinsics", "120", "120", "-3", "20"))
    )
    assert far == pytest.approx(2 * near, rel=1e-4)
    assert assumed not in (near, far)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("points.csv", "70.25,40\n3,2.5\n"),
        ("points.csv", "u,v\n70.25,40\n\n3,2.5\n"),
        ("points.csv", "\ufeffname, V ,U\r\na,40,70.25\r\nb,2.5,3\r\n"),
        ("POINTS.CSV", "7.025e1,40\n3,2.5"),
        ("points.json", "[[70.25, 40], [3, 2.5]]"),
        ("points.json", '[{"u": 70.25, "v": 40, "depth_m": 9}, {"v": 2.5, "u": 3}]'),
    ],
)
def test_points_from_text_files(name: str, text: str, ask: Asked, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    assert ask.depths("--points-file", str(tmp_path / name)) == ask.depths("--points", "70.25,40", "3,2.5")


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16])
def test_points_from_npy(dtype: type, ask: Asked, tmp_path: Path) -> None:
    np.save(tmp_path / "points.npy", np.array([[70, 40], [3, 2]], dtype))
    assert ask.depths("--points-file", str(tmp_path / "points.npy")) == ask.depths("--points", "70,40", "3,2")


@pytest.mark.parametrize(("name", "text"), [("none.csv", ""), ("none.csv", "u,v\n"), ("none.json", "[]")])
def test_no_points_are_answered_by_none(name: str, text: str, ask: Asked, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    output = tmp_path / "out.csv"
    overlay = tmp_path / "out.png"
    words = ("--points-file", str(tmp_path / name), "--output", str(output), "--overlay", str(overlay))
    assert ask.depths(*words) == []
    assert output.read_text() == "u,v,depth_m\n"
    assert Image.open(overlay).size == (640, 384)


def test_grid_is_regular(ask: Asked) -> None:
    """Three cells of 80/3 by 16 pixels each way; a cell's centre lies half its size from its edge."""
    points = [(row["u"], row["v"]) for row in ask.depths("--grid", "3")]
    columns, rows = (80 / 6 - 0.5, 39.5, 80 * 5 / 6 - 0.5), (7.5, 23.5, 39.5)
    np.testing.assert_allclose(points, [(u, v) for v in rows for u in columns])
    assert [(row["u"], row["v"]) for row in ask.depths("--grid", "1")] == [(39.5, 23.5)]


def test_files_hold_what_is_printed(ask: Asked, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("out.csv", "out.json", "out.PNG")]
    rows = ask.depths("--grid", "2", "--output", str(paths[0]), "--overlay", str(paths[2]))
    assert ask.depths("--grid", "2", "--output", str(paths[1])) == rows
    assert json.loads(paths[1].read_text()) == rows
    read = [
        {name: float(cell) for name, cell in row.items()} for row in csv.DictReader(io.StringIO(paths[0].read_text()))
    ]
    assert read == [pytest.approx(row) for row in rows]
    picture = Image.open(paths[2])
    assert picture.format == "PNG"
    assert picture.height == 8 * 48
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("points", [(), ("--points", "70,40", "3,2", "--json")])
def test_a_dense_map_has_every_pixel(points: tuple[str, ...], ask: Asked, tmp_path: Path) -> None:
    with Image.open(ask.image) as image:
        width, height = image.size
    for name in ("depth.npy", "depth.png"):
        status, output, errors = ask(*points, "--dense", str(tmp_path / name))
        assert (status, errors) == (0, f"wrote {width}x{height} depths to {tmp_path / name}\n")
        assert bool(output) == bool(points)
    metres = np.load(tmp_path / "depth.npy")
    assert (metres.dtype, metres.shape) == (np.float32, (height, width))
    for row in json.loads(output or "[]"):
        assert row["depth_m"] == pytest.approx(float(metres[int(row["v"]), int(row["u"])]), rel=1e-5)
    with Image.open(tmp_path / "depth.png") as image:
        np.testing.assert_array_equal(np.array(image), np.rint(metres.astype(np.float64) * 1000))


def test_a_dense_map_beyond_its_file_is_refused(ask: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scene, "dense", lambda self, step=1, progress=None: np.full(self.size, 65.6, np.float32))
    told = ask.refused("--dense", str(tmp_path / "depth.png"))
    assert told == "--dense as .png holds at most 65.535 m, got depths of up to 65.6 m; write it as .npy"
    assert not (tmp_path / "depth.png").exists()
    assert ask("--dense", str(tmp_path / "depth.npy"))[0] == 0


def test_a_map_of_a_large_image_shows_how_far_it_is(
    ask: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spd.cli.predict, "_QUICK_PIXELS", 1000)
    status, output, errors = ask("--dense", str(tmp_path / "depth.npy"))
    assert (status, output) == (0, "")
    assert "3840/3840" in errors


def test_a_dense_map_of_a_joint_model_is_refused_beyond_its_limit(ask_and_load: Asked, tmp_path: Path) -> None:
    big = tmp_path / "big.png"
    Image.new("RGB", (192, 128), "teal").save(big)
    target = tmp_path / "depth.npy"
    assert "a joint model answers at most 8192 points at once" in ask_and_load.refused(
        "--dense", str(target), image=big
    )
    assert not target.exists()
    with pytest.warns(UserWarning, match="was trained with joint queries"):
        status, _, _ = ask_and_load("--dense", str(target), "--interaction", "anchored", image=big)
    assert status == 0
    assert np.load(target).shape == (128, 192)


def test_an_exported_model_is_asked_with_its_engine(
    image_path: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = Asked(image_path, checkpoint, capsys)
    assert "is no exported model: it has no runtime.json; spd export" in ask.refused_by("onnx")


def test_without_a_checkpoint_the_bundled_one_answers_and_says_so(
    image_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", str(image_path), "--device", "cpu", "--points", "3,3", "70,40", "--json"]
    assert main(words) == 0
    captured = capsys.readouterr()
    assert captured.err == "with the bundled checkpoint spd-lite: indoor scenes, weights for research use only\n"
    expected = load(device="cpu")(image_path, [(3, 3), (70, 40)])
    assert [answer["depth_m"] for answer in json.loads(captured.out)] == pytest.approx(expected, abs=1e-6)


def test_an_empty_checkpoint_is_not_the_bundled_one(ask: Asked) -> None:
    assert main(["predict", str(ask.image), "--checkpoint", "", "--points", "3,3"]) == 2
    assert ask.capsys.readouterr().err == "spd: error: a checkpoint is a folder or a name, got an empty text\n"


def test_an_engine_without_a_checkpoint_says_what_it_needs(
    image_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(image_path), "--runtime", "onnx", "--points", "3,3"]) == 2
    told = "--runtime onnx needs --checkpoint, a folder that spd export wrote, got none"
    assert capsys.readouterr().err == f"spd: error: {told}\n"


def test_output_can_be_asked_again(ask: Asked, tmp_path: Path) -> None:
    for name in ("out.csv", "out.json"):
        rows = ask.depths("--points", "70.25,40", "3,2.5", "--output", str(tmp_path / name))
        assert ask.depths("--points-file", str(tmp_path / name)) == rows


class TestRefusals:
    @pytest.mark.parametrize(
        ("points", "message"),
        [
            (["80,2"], "inside 80x48, got (80.0, 2.0) at index 0"),
            (["3,3", "-0.6,3"], "inside 80x48, got (-0.6, 3.0) at index 1"),
            (["3,3", "nan,3"], "inside 80x48, got (nan, 3.0) at index 1"),
            (["inf,3"], "inside 80x48, got (inf, 3.0) at index 0"),
            (["3;4"], "--points must be pixels U,V such as 320,240, got '3;4'"),
            (["3"], "got '3'"),
            (["3,4,5"], "got '3,4,5'"),
            (["3,"], "got '3,'"),
            (["a,b"], "got 'a,b'"),
            ([""], "got ''"),
        ],
    )
    def test_points(self, points: list[str], message: str, ask: Asked, tmp_path: Path) -> None:
        overlay = tmp_path / "out.png"
        assert message in ask.refused("--points", *points, "--overlay", str(overlay))
        assert not overlay.exists()

    @pytest.mark.parametrize(
        "words",
        ["", "--points", "--points 3,3 --grid 2", "--grid 2 --points-file p.csv", "--points 3,3 --points-file p.npy"],
    )
    def test_not_exactly_one_way_to_say_where(self, words: str, ask: Asked) -> None:
        assert "give exactly one of --points, --points-file and --grid" in ask.refused(*words.split())

    @pytest.mark.parametrize("count", ["0", "-1", "257"])
    def test_grid_without_bounds(self, count: str, ask: Asked) -> None:
        assert f"--grid must be between 1 and 256, got {count}" in ask.refused("--grid", count)

    @pytest.mark.parametrize(
        "words", ["--grid two", "--intrinsics 1 2 3 --grid 2", "--unknown 3", "--grid 2 --json maybe"]
    )
    def test_command_line(self, words: str, ask: Asked) -> None:
        assert "(see spd predict --help)" in ask.refused(*words.split())

    @pytest.mark.parametrize(
        ("name", "contents", "message"),
        [
            ("p.csv", b"u,v\n3,4\n5\n", "p.csv line 3 must be 2 cells with the numbers u and v, got 5"),
            ("p.csv", b"3,4\n5,x\n", "p.csv line 2 must be 2 cells"),
            ("p.csv", b"x,y\n3,4\n", "a header with u and v, got x,y"),
            ("p.csv", b"u,u,v\n3,4,5\n", "a header with u and v, got u,u,v"),
            ("p.csv", b"3,4,5\n", "p.csv line 1 must be 2 cells"),
            ("p.csv", b"3,4\nnan,4\n", "got (nan, 4.0) at index 1"),
            ("p.csv", b"3,4\n90,4\n", "got (90.0, 4.0) at index 1"),
            ("p.csv", b"\xff\xfe3,4", "p.csv must be text in UTF-8"),
            ("p.csv", b'"' + b"3" * 200_000, "p.csv is not CSV"),
            ("p.json", b"[[3, 4]", "p.json is not JSON"),
            ("p.json", b"[" * 100_000, "p.json is not JSON"),
            ("p.json", b'{"u": 3, "v": 4}', "p.json must be a list of points, got dict"),
            ("p.json", b"[[3, 4], [3]]", "got [3] at index 1"),
            ("p.json", b'[{"u": 3}]', 'got {"u": 3} at index 0'),
            ("p.json", b'[["3", "4"]]', 'got ["3", "4"] at index 0'),
            ("p.json", b"[[true, 4]]", "got [true, 4] at index 0"),
            ("p.json", b"[[NaN, 4]]", "got (nan, 4.0) at index 0"),
            ("p.json", b"[[1" + b"0" * 400 + b", 4]]", "got values of type object"),
            ("p.npy", b"", "p.npy is not a .npy array of numbers"),
            ("p.npy", b"3,4\n", "p.npy is not a .npy array of numbers"),
            ("p.npy", b"PK\x05\x06" + bytes(18), "p.npy must hold one .npy array"),
            ("p.txt", b"3,4\n", "--points-file must end in .csv or .json or .npy, got"),
        ],
    )
    def test_points_files(self, name: str, contents: bytes, message: str, ask: Asked, tmp_path: Path) -> None:
        (tmp_path / name).write_bytes(contents)
        output = tmp_path / "out.csv"
        assert message in ask.refused("--points-file", str(tmp_path / name), "--output", str(output))
        assert not output.exists()

    @pytest.mark.parametrize(
        ("array", "message"),
        [
            (np.array([3.0, 4.0]), "got shape (2,)"),
            (np.zeros((3, 3)), "got shape (3, 3)"),
            (np.array([["3", "4"]]), "got values of type <U1"),
            (np.array([[3.0, np.nan]]), "got (3.0, nan) at index 0"),
        ],
    )
    def test_npy_arrays(self, array: np.ndarray, message: str, ask: Asked, tmp_path: Path) -> None:
        np.save(tmp_path / "p.npy", array)
        assert message in ask.refused("--points-file", str(tmp_path / "p.npy"))

    def test_npy_is_not_unpickled(self, ask: Asked, tmp_path: Path) -> None:
        class Trap:
            def __reduce__(self) -> tuple[Any, ...]:
                return (Path.touch, (tmp_path / "sprung",))

        np.save(tmp_path / "p.npy", np.array([[Trap(), 4]], dtype=object), allow_pickle=True)
        assert "is not a .npy array of numbers" in ask.refused("--points-file", str(tmp_path / "p.npy"))
        assert not (tmp_path / "sprung").exists()

    @pytest.mark.parametrize("name", ["p.csv", "p.json", "p.npy"])
    def test_missing_points_file(self, name: str, ask: Asked, tmp_path: Path) -> None:
        assert f"{name}: No such file" in ask.refused("--points-file", str(tmp_path / name))

    def test_images(self, ask: Asked, tmp_path: Path) -> None:
        truncated = tmp_path / "truncated.png"
        truncated.write_bytes(ask.image.read_bytes()[:-60])
        text = tmp_path / "text.jpg"
        text.write_text("not an image")
        for path in (truncated, text, tmp_path / "missing.png", tmp_path):
            assert f"cannot read the image {path}" in ask.refused("--grid", "2", image=path)

    def test_checkpoints(self, ask: Asked, tmp_path: Path) -> None:
        assert "no checkpoint folder" in ask.refused("--grid", "2", checkpoint=str(tmp_path / "missing"))
        assert "has no config.json" in ask.refused("--grid", "2", checkpoint=str(tmp_path))
        (tmp_path / "config.json").write_text('{"format": 99}')
        assert "has format 99" in ask.refused("--grid", "2", checkpoint=str(tmp_path))
        (tmp_path / "config.json").write_bytes((ask.checkpoint / "config.json").read_bytes())
        (tmp_path / "model.safetensors").write_bytes(b"cut short")
        assert "download is incomplete" in ask.refused("--grid", "2", checkpoint=str(tmp_path))

    def test_devices_and_cameras(self, ask: Asked) -> None:
        assert "device must be one that this machine has" in ask.refused("--grid", "2", "--device", "abacus")
        camera = ("--intrinsics", "0", "500", "3", "2")
        assert "focal lengths must be positive, got fx=0.0" in ask.refused("--grid", "2", *camera)

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ("--output out.txt", "--output must end in .csv or .json, got out.txt"),
            ("--output out", "--output must end in .csv or .json, got out"),
            ("--overlay out.gif", "--overlay must end in .png, got out.gif"),
            ("--dense out.jpg", "--dense must end in .png or .npy, got out.jpg"),
            ("--output missing/out.csv", "--output missing/out.csv has no folder: missing does not exist"),
            ("--overlay image.png", "--overlay would replace the input image.png"),
        ],
    )
    def test_outputs_before_any_work(
        self, words: str, message: str, ask: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A checkpoint that does not exist goes unnoticed: nothing is read before."""
        monkeypatch.chdir(tmp_path)
        assert message in ask.refused("--grid", "2", *words.split(), checkpoint="missing")

    def test_points_file_is_not_overwritten(self, ask: Asked, tmp_path: Path) -> None:
        path = tmp_path / "p.csv"
        path.write_text("3,4\n")
        assert "--output would replace the input" in ask.refused("--points-file", str(path), "--output", str(path))
        assert path.read_text() == "3,4\n"

    def test_nothing_is_half_written(self, ask: Asked, tmp_path: Path) -> None:
        """The overlay cannot take its place, since a folder has it."""
        (tmp_path / "out.png").mkdir()
        words = ("--output", str(tmp_path / "out.csv"), "--overlay", str(tmp_path / "out.png"))
        ask.refused("--grid", "2", *words)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["image.png", "out.png"]


def test_one_pixel_image(ask: Asked, tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), "teal").save(tmp_path / "pixel.png")
    status, output, _ = ask("--points", "0,0", "--json", image=tmp_path / "pixel.png")
    assert status == 0
    assert json.loads(output)[0]["depth_m"] > 0
