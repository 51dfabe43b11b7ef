"""What a user may give that is broken: one line each, of the kind that the command line prints."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from spd.cli import main as main_module
from spd.cli.errors import report
from spd.cli.main import main, with_homes
from spd.config import ModelConfig
from spd.data.rgbd import read_image
from spd.fast import library
from spd.files import expanded, read_npy
from spd.inputs import as_pixels, check_points
from spd.train_config import TrainConfig
from spd.variant import Variant


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("encoder", 7, "encoder must be a text, got 7"),
        ("neck_channels", (32, 64, 96), "neck_channels must be (a whole number, a whole number, a whole number"),
        ("embed_dim", "wide", "embed_dim must be a whole number, got 'wide'"),
        ("embed_dim", True, "embed_dim must be a whole number, got True"),
        ("dropout", "none", "dropout must be a number, got 'none'"),
        ("dropout", None, "dropout must be a number, got None"),
        ("pretrained", 1, "pretrained must be true or false, got 1"),
        ("train_size", (64,), "train_size must be (a whole number, a whole number), got (64,)"),
        ("variant", {"alignment": "center"}, "variant must be a Variant, got {'alignment'"),
        ("num_points", 10**12, "num_points must be at most 1024, got 1000000000000"),
        ("num_l3_layers", -1, "num_l3_layers must be at least 0"),
    ],
)
def test_a_configuration_of_other_types_is_refused(field: str, value: object, words: str) -> None:
    # Past the types that tests check for every dataclass, which nobody else does.
    config = ModelConfig.atto()
    object.__setattr__(config, field, value)
    with pytest.raises(ValueError) as refused:  # noqa: PT011  The words are compared below, as they are.
        config.__post_init__()
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("without", "canvas", "without must be a list of one of"),
        ("without", ("head",), "without must be a list of one of"),
        ("alignment", {"a": 1}, "alignment must be one of center, corner"),
        ("fourier_lowest_octave", 99, "fourier_lowest_octave must be from -32 to 32, got 99"),
    ],
)
def test_a_variant_of_other_types_is_refused(field: str, value: object, words: str) -> None:
    variant = Variant()
    object.__setattr__(variant, field, value)
    with pytest.raises(ValueError) as refused:  # noqa: PT011  The words are compared below, as they are.
        variant.__post_init__()
    assert words in str(refused.value)


def damaged_headers() -> list[bytes]:
    whole = b"\x93NUMPY\x01\x00v\x00"
    headers = [
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (1, 2), }",
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (1, 2",
        b"{'descr': '<f8' 'fortran_order': False, 'shape': (1, 2), }",
        b"{'descr': '|O', 'fortran_order': False, 'shape': (1, 2), }",
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000000, 2), }",
        b"\xff" * 60,
    ]
    return [whole + header.ljust(117) + b"\n" for header in headers]


@pytest.mark.parametrize("contents", [b"", b"\x93NUMPY", b"PK\x03\x04", *damaged_headers()])
def test_a_damaged_array_is_one_line(contents: bytes, tmp_path: Path) -> None:
    path = tmp_path / "points.npy"
    path.write_bytes(contents)
    with pytest.raises(ValueError, match=r"points\.npy is not a \.npy array of numbers") as refused:
        read_npy(path)
    assert "\n" not in str(refused.value)


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_points_of_other_libraries() -> None:
    expected = [[1.0, 2.0], [3.0, 4.0]]
    points = torch.tensor(expected, requires_grad=True)
    for given in (points, points.bfloat16(), points.int(), np.matrix(expected)):
        assert check_points(given, (10, 20)).tolist() == expected
    with pytest.raises(ValueError, match="query_points must be"):
        check_points([("a", object())], (10, 20))
    with pytest.raises(ValueError, match="got values of type bool"):
        check_points(points > 0, (10, 20))


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_images_that_cannot_be_read(tmp_path: Path, image: np.ndarray) -> None:
    assert as_pixels(np.matrix(image[:, :, 0])).shape == image.shape
    path = tmp_path / "cut.png"
    Image.fromarray(image).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with Image.open(path) as cut, pytest.raises(ValueError, match="cannot read the image"):
        as_pixels(cut)
    phone = tmp_path / "photo.jpg"
    phone.write_bytes(b"\x00\x00\x00\x18ftypheic" + bytes(50))
    with pytest.raises(ValueError, match="it is HEIC"):
        read_image(phone)
    with pytest.raises(ValueError, match=r"https://example\.org/a\.jpg is an address"):
        as_pixels("https://example.org/a.jpg")
    with pytest.raises(ValueError, match=r"https://example\.org/a\.jpg is an address"):
        read_image(Path("https://example.org/a.jpg"))


def test_homes_are_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~/a") == tmp_path / "a"
    options: Any = with_homes(TrainConfig(output=Path("~/run")))
    assert options.output == tmp_path / "run"
    with pytest.raises(ValueError, match="there is no home folder for ~nobody-of-that-name/a"):
        expanded("~nobody-of-that-name/a")


@pytest.mark.parametrize("word", ["0", "false", "No", "OFF"])
def test_kernels_are_left_out_by_any_word_for_no(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPD_NATIVE", word)
    assert library.library.__wrapped__() is None


def test_a_compiler_that_is_no_command_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", 'g++ "')
    with pytest.warns(UserWarning, match='CXX=g\\+\\+ " is no command'):
        assert library.find_compiler() is None


def test_what_a_loading_process_met_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    message = (
        "Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
        '  File "x.py", line 1, in f\n    g()\nValueError: cannot read the image a.png: broken\n'
    )
    assert report(ValueError(message)) == 2
    assert capsys.readouterr().err == "spd: error: cannot read the image a.png: broken\n"


def test_a_short_name_of_the_learning_rate(capsys: pytest.CaptureFixture[str]) -> None:
    call = main_module.parse(["train", "rooms-atto", "--lr", "0.01"])
    assert call.options.optimizer.learning_rate == 0.01


def test_an_exported_model_is_called_so(tmp_path: Path, capsys: pytest.CaptureFixture[str], image_path: Path) -> None:
    (tmp_path / "runtime.json").write_text("{}")
    assert main(["predict", str(image_path), "--points", "1,2", "--checkpoint", str(tmp_path)]) == 2
    assert "it is an exported model, for --runtime onnx or openvino" in capsys.readouterr().err


@pytest.mark.parametrize(("shell", "status"), [(">&-", 0), (">/dev/full", 2)])
def test_standard_output_that_takes_nothing(shell: str, status: int) -> None:
    command = f'"{sys.executable}" -m spd --version {shell}'
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert result.returncode == status, result.stderr
    assert result.stderr.count("\n") == (status == 2)
    assert status == 0 or ("standard output" in result.stderr and "No space left on device" in result.stderr)
