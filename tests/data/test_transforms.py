"""Image, depth, camera and points move together, and depth ends at the canonical focal length."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms.v2 import functional as vision

from spd.camera import Intrinsics
from spd.config import ModelConfig
from spd.data.rgbd import RGBDSample
from spd.data.transforms import (
    EvalTransform,
    Geometry,
    TrainTransform,
    add_depth_noise,
    draw_geometry,
    jitter_color,
    move_camera,
    move_points,
    resize_depth,
    resize_image,
    turn_hue,
)
from spd.train_config import DataConfig

STORED = (120, 176)
TARGET = (64, 96)
MODEL = ModelConfig.atto(train_size=TARGET)
F_C = MODEL.canonical_focal_length
CAMERA = Intrinsics(170.0, 150.0, 91.0, 55.0)
STILL = DataConfig(zoom=(1.0, 1.0), flip=False, color_jitter=(0.0, 0.0, 0.0, 0.0))

geometries = st.builds(
    Geometry,
    left=st.integers(-60, 40),
    top=st.integers(-40, 30),
    box_size=st.tuples(st.integers(80, 150), st.integers(120, 220)),
    target_size=st.just(TARGET),
    flip=st.booleans(),
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise_image(size: tuple[int, int] = STORED, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator(seed))


def constant_sample(depth_m: float, intrinsics: Intrinsics | None = None, step: float = 0.0) -> RGBDSample:
    return RGBDSample(noise_image(), torch.full(STORED, depth_m), intrinsics, step)


def centroid(weights: torch.Tensor) -> np.ndarray:
    rows, columns = np.mgrid[0 : weights.shape[0], 0 : weights.shape[1]]
    mass = weights.double().numpy()
    return np.array([(columns * mass).sum(), (rows * mass).sum()]) / mass.sum()


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(10, 165), st.integers(10, 109))
@example(seed=0, u=20, v=30)
def test_a_painted_point_moves_to_where_its_depth_moves(seed: int, u: int, v: int) -> None:
    sample = RGBDSample(torch.zeros(3, *STORED, dtype=torch.uint8), torch.full(STORED, 1.0), CAMERA)
    sample.image[:, v - 4 : v + 5, u - 4 : u + 5] = 255
    sample.depth_m[v - 4 : v + 5, u - 4 : u + 5] = 9.0
    data = DataConfig(zoom=(0.7, 1.4), color_jitter=(0.0, 0.0, 0.0, 0.0))
    moved = TrainTransform(data=data, model=MODEL)(sample, generator(seed))
    top, left = moved.geometry.top, moved.geometry.left
    height, width = moved.geometry.box_size
    assume(left + 6 <= u < left + width - 6 and top + 6 <= v < top + height - 6)
    expected = move_points(torch.tensor([[float(u), float(v)]]), moved.geometry)[0].numpy()
    # Far depth is above three quarters of the farthest, whatever the zoom made of the metres.
    far = moved.depth_m > 0.75 * moved.depth_m.max()
    np.testing.assert_allclose(centroid(moved.image.mean(0)), expected, atol=0.15)
    np.testing.assert_allclose(centroid(far), expected, atol=0.75)


def test_both_directions_of_flip_and_zoom_are_drawn() -> None:
    data = DataConfig(zoom=(0.8, 1.25))
    drawn = [draw_geometry(STORED, data, TARGET, generator(seed)) for seed in range(400)]
    zooms = np.array([STORED[1] / geometry.box_size[1] for geometry in drawn])
    assert 0.79 < zooms.min() < 0.82
    assert 1.22 < zooms.max() < 1.27
    # Log-uniform: half below 1 in this range, where uniform draws would have 44 %.
    assert abs(np.mean(np.log(zooms) < 0) - 0.5) < 0.05
    assert abs(np.mean([geometry.flip for geometry in drawn]) - 0.5) < 0.08
    lefts = [geometry.left for geometry, zoom in zip(drawn, zooms, strict=True) if zoom > 1.2]
    assert min(lefts) <= 2
    assert max(lefts) >= 26
    assert not any(draw_geometry(STORED, STILL, TARGET, generator(seed)).flip for seed in range(50))


@given(st.integers(0, 10_000), st.floats(0.5, 2.0))
def test_a_box_lies_in_the_image_or_around_it(seed: int, zoom: float) -> None:
    drawn = draw_geometry(STORED, DataConfig(zoom=(zoom, zoom)), TARGET, generator(seed))
    for start, length, limit in ((drawn.top, drawn.box_size[0], STORED[0]), (drawn.left, drawn.box_size[1], STORED[1])):
        assert length == pytest.approx(limit / zoom, abs=0.51)
        inside, around = (start >= 0 and start + length <= limit), (start <= 0 and start + length >= limit)
        assert inside or around


@settings(deadline=None)
@given(geometries, st.tuples(st.floats(-3, 3), st.floats(-2, 2), st.floats(0.5, 9)))
def test_a_point_in_space_projects_to_the_moved_pixel(geometry: Geometry, point: tuple[float, float, float]) -> None:
    def matrix(camera: Intrinsics) -> np.ndarray:
        return np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])

    x, y, z = point
    stored = matrix(CAMERA) @ (x / z, y / z, 1.0)
    # Homogeneous maps between pixel indices, composed by hand: to corners, crop, scale, back to centres, mirror.
    to_corner = np.array([[1, 0, 0.5 - geometry.left], [0, 1, 0.5 - geometry.top], [0, 0, 1]])
    scale = np.diag([TARGET[1] / geometry.box_size[1], TARGET[0] / geometry.box_size[0], 1])
    to_centre = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])
    mirror = np.array([[-1, 0, TARGET[1] - 1], [0, 1, 0], [0, 0, 1]]) if geometry.flip else np.eye(3)
    expected = (mirror @ to_centre @ scale @ to_corner @ stored)[:2]

    moved = move_points(torch.from_numpy(stored[None, :2]), geometry)[0].numpy()
    np.testing.assert_allclose(moved, expected, atol=1e-9)
    # Seen in a mirror, the point is at -x.
    projected = matrix(move_camera(CAMERA, geometry)) @ ((-x if geometry.flip else x) / z, y / z, 1.0)
    np.testing.assert_allclose(projected[:2], expected, atol=1e-9)


@pytest.mark.parametrize("intrinsics", [None, CAMERA])
@pytest.mark.parametrize("zoom", [0.5, 0.8, 1.0, 1.25, 2.0])
def test_zoom_alone_divides_depth(intrinsics: Intrinsics | None, zoom: float) -> None:
    sample = constant_sample(3.0, intrinsics)
    data = DataConfig(zoom=(zoom, zoom), flip=False)
    unzoomed = EvalTransform(model=MODEL)(sample).depth_m.max().item()
    zoomed = TrainTransform(data=data, model=MODEL)(sample, generator()).depth_m.max().item()
    # The box has whole pixels, hence not exactly this zoom.
    assert zoomed == pytest.approx(unzoomed / zoom, rel=0.005)


def test_depth_is_brought_to_the_canonical_focal_length() -> None:
    # Resized from 120x176 to 64x96: fx by 96/176, fy by 64/120.
    focal = math.sqrt(170.0 * 96 / 176 * 150.0 * 64 / 120)
    result = EvalTransform(model=MODEL)(constant_sample(3.0, CAMERA))
    assert result.depth_m.shape == TARGET
    torch.testing.assert_close(result.depth_m, torch.full(TARGET, 3.0 * F_C / focal))
    assert result.intrinsics.focal_length == pytest.approx(focal)
    without = EvalTransform(model=MODEL)(constant_sample(3.0))
    torch.testing.assert_close(without.depth_m, torch.full(TARGET, 3.0))
    assert without.intrinsics.focal_length == pytest.approx(F_C)


@pytest.mark.parametrize("focal", [60.0, 700.0])
def test_depth_of_the_scene_outside_of_the_range_is_missing(focal: float) -> None:
    """Whatever the camera makes of it: at these focal lengths 4 m become about 6 and half a metre."""
    model = ModelConfig.atto(train_size=TARGET, depth_range=(0.5, 4.5))
    depth_m = torch.full(STORED, 4.0)
    depth_m[:, :40], depth_m[:, -40:] = 0.4, 5.0
    sample = RGBDSample(noise_image(), depth_m, CAMERA._replace(fx=focal, fy=focal), 0.01)
    expected = torch.zeros(TARGET, dtype=torch.bool)
    # Columns of 176 that become 96: those whose centre lies between 40 and 136.
    expected[:, 22:74] = True
    for transformed in (
        EvalTransform(model=model)(sample),
        TrainTransform(data=STILL, model=model)(sample, generator()),
    ):
        assert torch.equal(transformed.depth_m > 0, expected)
        scale = transformed.intrinsics.focal_length / model.canonical_focal_length
        in_scene = transformed.depth_m[expected] * scale
        torch.testing.assert_close(in_scene, torch.full_like(in_scene, 4.0), atol=0.006, rtol=0)


@pytest.mark.parametrize("flip", [False, True])
def test_padding_is_invalid_and_repeats_the_border(flip: bool) -> None:
    # 128x192 is 2x the target; the image is its part from (30, 40): 15 rows and 20 columns of padding before it.
    geometry = Geometry(-40, -30, (128, 192), TARGET, flip)
    image = torch.full((3, 60, 80), 51, dtype=torch.uint8)
    image[:, :, :4] = 204
    image[0, -4:, :] = 255
    pixels, depth_m = resize_image(image, geometry), resize_depth(torch.full((60, 80), 2.0), geometry)
    if flip:
        pixels, depth_m = pixels.flip(-1), depth_m.flip(-1)
    expected = torch.zeros(TARGET)
    expected[15:45, 20:60] = 2.0
    torch.testing.assert_close(depth_m, expected)
    assert pixels[1, 30, 0].item() == pytest.approx(0.8)
    assert pixels[1, 30, 95].item() == pytest.approx(0.2)
    assert pixels[0, 63, 50].item() == pytest.approx(1.0)
    assert pixels[0, 0, 50].item() == pytest.approx(0.2)


@settings(deadline=None, max_examples=40)
@given(geometries, st.integers(0, 100))
def test_depth_is_the_nearest_pixel_and_never_a_blend(geometry: Geometry, seed: int) -> None:
    depth_m = torch.rand(STORED, generator=generator(seed)) + 0.5
    depth_m[torch.rand(STORED, generator=generator(seed + 1)) < 0.2] = 0
    (height, width), (top, left) = geometry.box_size, (geometry.top, geometry.left)
    padded = F.pad(depth_m, (60, 220, 40, 150))[top + 40 : top + 40 + height, left + 60 : left + 60 + width]
    expected = F.interpolate(padded[None, None].double(), TARGET, mode="nearest-exact")[0, 0].float()
    moved = resize_depth(depth_m, geometry)
    moved = moved.flip(-1) if geometry.flip else moved
    # Where a centre falls between two pixels the rounding of the ratio decides.
    assert (moved == expected).float().mean() > 0.95
    assert torch.isin(moved, torch.cat((depth_m.flatten(), torch.zeros(1)))).all()
    rows, columns = np.mgrid[0 : TARGET[0], 0 : TARGET[1]]
    v = np.floor((rows + 0.5) * height / TARGET[0] + top)
    u = np.floor((columns + 0.5) * width / TARGET[1] + left)
    beyond = (v < 0) | (v >= STORED[0]) | (u < 0) | (u >= STORED[1])
    assert (moved[torch.from_numpy(beyond)] == 0).all()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 30), st.integers(0, 20), st.integers(70, 100), st.integers(100, 146), st.integers(0, 50))
def test_the_image_is_resampled_once_with_antialiasing(left: int, top: int, height: int, width: int, seed: int) -> None:
    image = noise_image(seed=seed)
    box = (left, top, left + width, top + height)
    # PIL's bilinear filter widens with the reduction too.
    reference = (
        Image.fromarray(image.permute(1, 2, 0).numpy()).crop(box).resize(TARGET[::-1], Image.Resampling.BILINEAR)
    )
    moved = resize_image(image, Geometry(left, top, (height, width), TARGET))
    assert moved.dtype == torch.float32
    # Both round to 8 bits between the axes and at the end: where both roundings differ, by two levels.
    difference = np.abs(moved.permute(1, 2, 0).numpy() * 255 - np.asarray(reference))
    assert difference.max() < 2.01
    assert (difference > 1.01).mean() < 0.001


def test_the_padded_image_is_laid_out_either_way_alike() -> None:
    image = noise_image()
    channels_last = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    geometry = Geometry(-20, 10, (100, 220), TARGET, flip=True)
    torch.testing.assert_close(resize_image(image, geometry), resize_image(channels_last, geometry), atol=0, rtol=0)


def test_depth_noise_undoes_the_quantisation() -> None:
    depth_m = torch.rand((300, 400), generator=generator()) * 5 + 0.5
    depth_m[:100] = 0
    noisy = add_depth_noise(depth_m, 0.04, generator(1))
    assert (noisy[:100] == 0).all()
    noise = (noisy - depth_m)[100:].double()
    assert noise.abs().max() <= 0.02 + 1e-6
    assert noise.abs().max() > 0.0199
    assert abs(noise.mean()) < 2e-4
    assert noise.var().item() == pytest.approx(0.04**2 / 12, rel=0.02)
    assert torch.equal(add_depth_noise(depth_m, 0.0, generator()), depth_m)
    assert (add_depth_noise(torch.full((50, 60), 0.01), 1.0, generator()) > 0).all()


def test_the_noise_of_a_frame_is_its_own_step_at_its_own_scale() -> None:
    """The step is in metres of the scene: it is scaled with the depth."""
    sample = constant_sample(4.0, CAMERA, step=0.1)
    result = TrainTransform(data=STILL, model=MODEL)(sample, generator())
    scale = F_C / result.intrinsics.focal_length
    in_scene = result.depth_m / scale - 4.0
    assert 0.049 < in_scene.abs().max() <= 0.05 + 1e-5
    assert torch.equal(EvalTransform(model=MODEL)(sample).depth_m.unique(), torch.tensor([4.0 * scale]))


@given(st.floats(-0.5, 0.5), st.integers(0, 100))
@example(turn=0.0, seed=0)
@settings(deadline=None, max_examples=30)
def test_turning_the_hue_is_torchvisions(turn: float, seed: int) -> None:
    image = torch.rand((3, 9, 14), generator=generator(seed))
    image[:, 0] = image[:1, 0]
    image[1:, 1] = 0
    image[:, 2] = 1
    torch.testing.assert_close(turn_hue(image, turn), vision.adjust_hue(image, turn), atol=3e-6, rtol=0)


@pytest.mark.parametrize("seed", range(5))
def test_brightness_contrast_and_saturation_are_torchvisions(seed: int) -> None:
    # In the middle of the range nothing is clamped, so that the factor can be read off the result.
    image = 0.4 + 0.2 * torch.rand((3, 20, 32), generator=generator(9))
    brighter = jitter_color(image, (0.3, 0.0, 0.0, 0.0), generator(seed))
    factor = (brighter / image).mean().item()
    assert 0.7 <= factor <= 1.3
    torch.testing.assert_close(brighter, vision.adjust_brightness(image, factor))
    contrasted = jitter_color(image, (0.0, 0.3, 0.0, 0.0), generator(seed))
    factor = (contrasted.std() / image.std()).item()
    assert 0.7 <= factor <= 1.3
    torch.testing.assert_close(contrasted, vision.adjust_contrast(image, factor), atol=1e-4, rtol=0)
    saturated = jitter_color(image, (0.0, 0.0, 0.3, 0.0), generator(seed))
    factor = ((saturated[0] - saturated[1]).std() / (image[0] - image[1]).std()).item()
    assert 0.7 <= factor <= 1.3
    torch.testing.assert_close(saturated, vision.adjust_saturation(image, factor), atol=1e-4, rtol=0)


def test_color_stays_in_range_and_differs_by_draw() -> None:
    image = torch.rand((3, 20, 32), generator=generator())
    assert torch.equal(jitter_color(image, (0.0, 0.0, 0.0, 0.0), generator()), image)
    drawn = [jitter_color(image, (1.0, 1.0, 1.0, 0.5), generator(seed)) for seed in range(6)]
    assert all(one.min() >= 0 and one.max() <= 1 for one in drawn)
    assert not torch.equal(drawn[0], drawn[1])


def test_a_sample_depends_on_the_given_generator_alone() -> None:
    sample = RGBDSample(noise_image(), torch.rand(STORED, generator=generator()), CAMERA, 0.05)
    stored = [part.clone() for part in sample[:2]]
    transform = TrainTransform(data=DataConfig(), model=MODEL)
    before = torch.get_rng_state()
    first, second = (transform(sample, generator(5)) for _ in range(2))
    other = transform(sample, generator(6))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.image, second.image)
    assert torch.equal(first.depth_m, second.depth_m)
    assert first.geometry == second.geometry
    assert not torch.equal(first.image, other.image)
    assert all(torch.equal(part, was) for part, was in zip(sample[:2], stored, strict=True))


def test_color_does_not_depend_on_the_number_of_threads() -> None:
    """A worker has one thread, the main process several."""
    image = torch.rand((3, 256, 320), generator=generator())
    amounts = (0.2, 0.2, 0.2, 0.1)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = [jitter_color(image, amounts, generator(seed)) for seed in range(8)]
        torch.set_num_threads(2)
        shared = [jitter_color(image, amounts, generator(seed)) for seed in range(8)]
    finally:
        torch.set_num_threads(threads)
    assert all(map(torch.equal, alone, shared))
