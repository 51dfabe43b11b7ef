"""Manifests and the files that they name."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spd.camera import Intrinsics
from spd.data.manifest import Frame, read_manifest
from spd.data.rgbd import RGBDDataset, read_depth, read_image, to_rgb

HEIGHT, WIDTH = 6, 10
CAMERA = "image,depth,split,fx,fy,cx,cy"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images with a depth each; no manifest yet."""
    rng = np.random.default_rng(0)
    for name in "ab":
        Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(tmp_path / f"{name}.png")
        Image.fromarray(rng.integers(0, 9000, (HEIGHT, WIDTH), dtype=np.uint16)).save(tmp_path / f"{name}_depth.png")
    return tmp_path


def write(folder: Path, *lines: str) -> Path:
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def saved(pixels: Image.Image, folder: Path, name: str = "image.png", **options: object) -> Path:
    pixels.save(folder / name, **options)
    return folder / name


def test_a_manifest_gives_its_frames_in_order(folder: Path) -> None:
    write(
        folder,
        "scene,image,depth,split,fx,fy,cx,cy,depth_scale,depth_step",
        "kitchen,a.png,a_depth.png,train,500,510,4.5,2.5,5000,0.01",
        ",b.png,b_depth.png,test,,,,,,",
    )
    assert read_manifest(folder) == [
        Frame(
            folder / "a.png", folder / "a_depth.png", "train", Intrinsics(500, 510, 4.5, 2.5), "kitchen", 5000.0, 0.01
        ),
        Frame(folder / "b.png", folder / "b_depth.png", "test", None, None, 1000.0, 0.0),
    ]
    assert [frame.split for frame in read_manifest(folder, ("test",))] == ["test"]


def test_a_manifest_from_a_spreadsheet_reads_alike(folder: Path) -> None:
    text = "image,depth,split\r\na.png, a_depth.png ,train\r\n\r\n"
    (folder / "manifest.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert [frame.depth.name for frame in read_manifest(folder)] == ["a_depth.png"]


def test_files_of_other_splits_are_not_asked_for(folder: Path) -> None:
    write(folder, "image,depth,split", "a.png,a_depth.png,train", "gone.png,gone_depth.png,test")
    assert len(read_manifest(folder, ("train",))) == 1
    with pytest.raises(ValueError, match=r"line 3: there is no file .*gone\.png"):
        read_manifest(folder)


def test_a_folder_is_listed_once_and_its_spelling_left_to_the_file_system(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = []

    def list_in_capitals(path: str) -> list[str]:
        listed.append(path)
        return ["A.PNG", "A_DEPTH.PNG"]

    write(folder, "image,depth,split", *["a.png,a_depth.png,train"] * 20)
    monkeypatch.setattr("os.listdir", list_in_capitals)
    assert len(read_manifest(folder)) == 20
    assert listed == [str(folder)]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["image,split", "a.png,train"], r"lacks the column depth; required are image, depth, split"),
        (
            ["image,depth,split,colour", "a.png,a_depth.png,train,red"],
            r"unknown column 'colour'; allowed are image, .*",
        ),
        (["image,depth,split,split", "a.png,a_depth.png,train,train"], r"names a column twice"),
        (["image,depth,split,fx,fy", "a.png,a_depth.png,train,1,1"], r"fx, fy, cx, cy or none, got fx, fy"),
        (["image,depth,split", "a.png,a_depth.png"], r"line 2: expected 3 cells, got 2"),
        (["image,depth,split", "a.png,a_depth.png,train,"], r"line 2: expected 3 cells, got 4"),
        (["image,depth,split", "a.png,a_depth.png,"], r"line 2: split is empty"),
        (["image,depth,split", "a.png,a_depth.jpg,train"], r"line 2: depth must be a \.png or \.npy file, got a_dep"),
        (["image,depth,split", "a.png,b_depth.npy,train"], r"line 2: there is no file .*b_depth\.npy"),
        ([CAMERA, "a.png,a_depth.png,train,500,wide,4,2"], r"line 2: fy must be a number above 0, got 'wide'"),
        ([CAMERA, "a.png,a_depth.png,train,-5,500,4,2"], r"line 2: fx must be a number above 0, got '-5'"),
        ([CAMERA, "a.png,a_depth.png,train,500,500,nan,2"], r"line 2: cx must be a number, got 'nan'"),
        ([CAMERA, "a.png,a_depth.png,train,500,,4,"], r"line 2: intrinsics need all of .*fy, cy is empty"),
        (["image,depth,split,depth_scale", "a.png,a_depth.png,train,0"], r"depth_scale must be a number above 0"),
        (["image,depth,split,depth_step", "a.png,a_depth.png,train,-1"], r"depth_step must be a number of at least 0"),
        (["image,depth,split"], r"has no frames"),
        (["image,depth,split", "a.png,a_depth.png,test"], r"has no frame in split train; it has test"),
        (['"image,depth,split', "a.png,a_depth.png,train"], r"must be CSV in UTF-8: unexpected end of data"),
    ],
)
def test_a_faulty_manifest_is_refused_in_one_line(folder: Path, lines: list[str], message: str) -> None:
    write(folder, *lines)
    with pytest.raises(ValueError, match=message) as refusal:
        read_manifest(folder, ("train",))
    assert "\n" not in str(refusal.value)
    assert str(folder) in str(refusal.value)


def test_a_folder_without_a_manifest_and_a_binary_one_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"a data set is a folder with manifest\.csv, got .* without one"):
        read_manifest(folder)
    (folder / "manifest.csv").write_bytes(b"\xff\xfe\x00image")
    with pytest.raises(ValueError, match="must be CSV in UTF-8"):
        read_manifest(folder)


def test_a_frame_in_memory(folder: Path) -> None:
    write(folder, f"{CAMERA},depth_scale,depth_step", "a.png,a_depth.png,train,500,510,4.5,2.5,2000,0.25")
    dataset = RGBDDataset(folder, ("train",))
    sample = dataset[0]
    assert len(dataset) == 1
    assert sample.image.dtype == torch.uint8
    assert sample.image.shape == (3, HEIGHT, WIDTH)
    pixels = Image.open(folder / "a.png")
    depths = Image.open(folder / "a_depth.png")
    for v, u in ((0, 0), (2, 9), (5, 3)):
        assert tuple(sample.image[:, v, u].tolist()) == pixels.getpixel((u, v))
        assert sample.depth_m[v, u].item() == pytest.approx(depths.getpixel((u, v)) / 2000)
    assert sample.intrinsics == Intrinsics(500, 510, 4.5, 2.5)
    assert sample.depth_step == 0.25


def test_depth_of_another_size_is_refused(folder: Path) -> None:
    Image.fromarray(np.ones((5, 8), dtype=np.uint16)).save(folder / "a_depth.png")
    write(folder, "image,depth,split", "a.png,a_depth.png,train")
    with pytest.raises(ValueError, match=r"got 8x5 in .*a_depth\.png and 10x6 in .*a\.png"):
        RGBDDataset(folder)[0]


def test_depth_from_an_array_is_in_metres_and_only_measurements_count(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", np.array([[1.5, np.nan, np.inf], [-2.0, 0.0, 4.0]]))
    depth_m = read_depth(Frame(tmp_path / "d.png", tmp_path / "d.npy", "train", depth_scale=5000.0))
    assert depth_m.dtype == np.float32
    assert depth_m.tolist() == [[1.5, 0, 0], [0, 0, 4.0]]


def test_depth_of_another_kind_is_refused(tmp_path: Path) -> None:
    def frame(name: str) -> Frame:
        return Frame(tmp_path / "d.png", tmp_path / name, "train")

    Image.new("L", (4, 3)).save(tmp_path / "eight.png")
    np.save(tmp_path / "whole.npy", np.ones((3, 4), dtype=np.int32))
    np.save(tmp_path / "three.npy", np.ones((3, 4, 1)))
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}]), allow_pickle=True)
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ValueError, match=r"eight\.png must be a 16-bit greyscale PNG, got PIL mode L"):
        read_depth(frame("eight.png"))
    with pytest.raises(ValueError, match=r"whole\.npy must hold \(H, W\) floats, got \(3, 4\) of int32"):
        read_depth(frame("whole.npy"))
    with pytest.raises(ValueError, match=r"must hold \(H, W\) floats, got \(3, 4, 1\)"):
        read_depth(frame("three.npy"))
    with pytest.raises(ValueError, match=r"cannot read the depth .*objects\.npy"):
        read_depth(frame("objects.npy"))
    with pytest.raises(ValueError, match=r"cannot read the depth .*text\.png"):
        read_depth(frame("text.png"))


def test_an_image_is_read_as_displayed(image: np.ndarray, tmp_path: Path) -> None:
    exif = Image.Exif()
    # 274 is the orientation; 6 is displayed turned by a quarter to the right.
    exif[274] = 6
    path = saved(Image.fromarray(image), tmp_path, exif=exif)
    np.testing.assert_array_equal(read_image(path), np.rot90(image, -1))
    with Image.open(path) as opened:
        np.testing.assert_array_equal(to_rgb(opened), image)


def test_greyscale_of_8_and_16_bits(tmp_path: Path) -> None:
    grey = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH) * 4
    expected = np.stack((grey,) * 3, axis=-1)
    np.testing.assert_array_equal(read_image(saved(Image.fromarray(grey), tmp_path)), expected)
    wide = grey.astype(np.uint16) * 257 + 100
    np.testing.assert_array_equal(read_image(saved(Image.fromarray(wide), tmp_path)), expected)
    np.testing.assert_array_equal(to_rgb(Image.fromarray(wide.astype(np.int32))), expected)
    assert to_rgb(Image.fromarray(np.array([[65535, 0]], dtype=np.uint16))).tolist() == [[[255] * 3, [0] * 3]]


def test_greyscale_of_an_unknown_range_is_refused(tmp_path: Path) -> None:
    floats = saved(Image.fromarray(np.ones((3, 5), dtype=np.float32)), tmp_path, "float.tiff")
    with pytest.raises(ValueError, match=r"float\.tiff: greyscale must have 8 or 16 bits, got PIL mode F"):
        read_image(floats)
    with pytest.raises(ValueError, match="greyscale must have 8 or 16 bits"):
        to_rgb(Image.fromarray(np.full((3, 5), 70000, dtype=np.int32)))


def test_transparent_images_lie_on_white(tmp_path: Path) -> None:
    rgba = np.zeros((2, 3, 4), dtype=np.uint8)
    rgba[..., 0] = 200
    rgba[0, :, 3] = (255, 0, 51)
    on_white = [[200, 0, 0], [255, 255, 255], [244, 204, 204]]
    assert read_image(saved(Image.fromarray(rgba), tmp_path))[0].tolist() == on_white
    grey = Image.fromarray(rgba[..., [0, 3]], mode="LA")
    assert read_image(saved(grey, tmp_path))[0].tolist() == [[200] * 3, [255] * 3, [244] * 3]
    keyed = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], dtype=np.uint8))
    assert read_image(saved(keyed, tmp_path, transparency=(1, 2, 3))).tolist() == [[[255] * 3, [4, 5, 6]]]


def test_palette_and_cmyk(image: np.ndarray, tmp_path: Path) -> None:
    colours = Image.fromarray(image).quantize(8)
    table = np.array(colours.getpalette()).reshape(-1, 3)
    np.testing.assert_array_equal(read_image(saved(colours, tmp_path)), table[np.array(colours)])
    ink = np.zeros((2, 3, 4), dtype=np.uint8)
    ink[..., 1] = 255
    magenta = read_image(saved(Image.fromarray(ink, mode="CMYK"), tmp_path, "ink.tiff"))
    assert magenta.reshape(-1, 3).tolist() == [[255, 0, 255]] * 6


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_truncated_image_is_refused(image: np.ndarray, tmp_path: Path, suffix: str) -> None:
    path = saved(Image.fromarray(image), tmp_path, f"image.{suffix}")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=rf"cannot read the image .*image\.{suffix}: .*truncated"):
        read_image(path)


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.png").touch()
    for name in ("text.png", "empty.png", "absent.png"):
        with pytest.raises(ValueError, match=f"cannot read the image .*{name}") as refusal:
            read_image(tmp_path / name)
        assert "\n" not in str(refusal.value)


@pytest.mark.skipif("SPD_NYU" not in os.environ, reason="SPD_NYU, the folder of the NYU Depth V2 manifest, is not set")
def test_nyu_reads() -> None:
    dataset = RGBDDataset(Path(os.environ["SPD_NYU"]), ("val",))
    sample = dataset[0]
    assert len(dataset) == 100
    assert sample.image.shape == (3, 480, 640)
    assert 0.3 < sample.depth_m[sample.depth_m > 0].min() < sample.depth_m.max() < 11
