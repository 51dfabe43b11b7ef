from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ImageDraw

from spd.visualize import colours, draw_depths

Box = tuple[float, float, float, float]


@pytest.fixture
def plates(monkeypatch: pytest.MonkeyPatch) -> list[Box]:
    """Where labels are drawn: (left, top, right, bottom) of their plates."""
    drawn: list[Box] = []
    rounded_rectangle = ImageDraw.ImageDraw.rounded_rectangle

    def watched(self: ImageDraw.ImageDraw, xy: Box, **settings: object) -> None:
        drawn.append(xy)
        rounded_rectangle(self, xy, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(ImageDraw.ImageDraw, "rounded_rectangle", watched)
    return drawn


def grey(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def points_at(*pairs: tuple[float, float]) -> np.ndarray:
    return np.array(pairs, dtype=np.float64).reshape(-1, 2)


def test_disc_has_the_colour_of_its_depth() -> None:
    picture = draw_depths(grey(480, 700), points_at((100, 60), (400, 300)), np.array([1.0, 8.0]))
    near, far = colours(np.array([1.0, 8.0]), 1.0, 8.0)
    assert picture[60, 100].tolist() == near.tolist()
    assert picture[300, 400].tolist() == far.tolist()
    assert near[0] > 150 > near[2]  # warm
    assert far[2] > 120 > far[0]  # cold


def test_only_surroundings_of_points_change() -> None:
    picture = draw_depths(grey(480, 700), points_at((100, 60)), np.array([2.0]))
    changed = (picture[:, :700] != 128).any(axis=2)
    rows, columns = np.nonzero(changed)
    assert 0 < changed.sum() < 3000
    assert rows.min() > 60 - 30
    assert rows.max() < 60 + 30
    assert columns.min() > 100 - 30
    assert columns.max() < 100 + 100


@pytest.mark.parametrize(("size", "factor"), [((480, 640), 1), ((256, 320), 2), ((48, 64), 10), ((1080, 1920), 1)])
def test_small_images_are_enlarged(size: tuple[int, int], factor: int) -> None:
    """The pixel asked for lies in the middle of the block it becomes."""
    height, width = size
    u, v = width // 3, height // 4
    picture = draw_depths(grey(height, width), points_at((u, v), (width // 2, v)), np.array([1.0, 3.0]))
    assert picture.shape[0] == factor * height
    assert factor * width < picture.shape[1] < 1.25 * factor * width
    middle = int((u + 0.5) * factor), int((v + 0.5) * factor)
    assert picture[middle[1], middle[0]].tolist() == colours(np.array([1.0]), 1.0, 3.0)[0].tolist()


def test_image_that_is_given_stays_as_it_is() -> None:
    image = grey(480, 700)
    draw_depths(image, points_at((100, 60)), np.array([2.0]))
    assert (image == 128).all()


def test_no_points_give_the_image() -> None:
    assert np.array_equal(draw_depths(grey(480, 700), np.zeros((0, 2)), np.zeros(0)), grey(480, 700))


def test_float32_depths_and_equal_depths_are_drawn() -> None:
    depth_m = np.full(3, 2.5, np.float32)
    picture = draw_depths(grey(480, 700), points_at((50, 50), (150, 90), (300, 300)), depth_m)
    assert picture[50, 50].tolist() == picture[90, 150].tolist() == picture[300, 300].tolist()


@settings(max_examples=20, deadline=None)
@given(depths=st.lists(st.floats(0.01, 100), min_size=2, max_size=6, unique=True))
def test_nearer_is_never_colder(depths: list[float]) -> None:
    """Along the rainbow, and so from near to far, the colour's place in the map only falls."""
    ramp = colours(np.geomspace(0.01, 100, 400), 0.01, 100.0).astype(int)
    places = [int(np.abs(ramp - colour).sum(axis=1).argmin()) for colour in colours(np.sort(depths), 0.01, 100.0)]
    assert places == sorted(places)


@pytest.mark.parametrize("count", [1, 5, 50, 400])
@pytest.mark.parametrize("size", [(480, 640), (48, 64), (120, 900), (900, 120)])
def test_labels_stay_inside_and_apart(count: int, size: tuple[int, int], plates: list[Box]) -> None:
    height, width = size
    points = np.random.default_rng(count).uniform((-0.5, -0.5), (width - 0.51, height - 0.51), (count, 2))
    draw_depths(grey(height, width), points, np.linspace(1, 4, count))
    factor = math.ceil(640 / max(size))
    assert len(plates) == 1 if count == 1 else 3 <= len(plates) <= count
    for left, top, right, bottom in plates:
        assert min(left, top) >= 0
        assert right <= width * factor
        assert bottom <= height * factor
    for index, one in enumerate(plates):
        for other in plates[index + 1 :]:
            assert one[0] >= other[2] or other[0] >= one[2] or one[1] >= other[3] or other[1] >= one[3]


def test_corners_are_labelled(plates: list[Box]) -> None:
    corners = points_at((-0.5, -0.5), (639.49, -0.5), (-0.5, 479.49), (639.49, 479.49))
    draw_depths(grey(480, 640), corners, np.array([1.0, 2.0, 3.0, 4.0]))
    assert len(plates) == 4


def test_many_points_have_few_labels(plates: list[Box]) -> None:
    steps = np.linspace(0, 1, 40)
    u, v = np.meshgrid(steps * 639, steps * 479)
    draw_depths(grey(480, 640), np.stack((u.ravel(), v.ravel()), axis=1), np.linspace(1, 5, 1600))
    assert 10 <= len(plates) <= 25
    # They are spread: each quarter of the image has some.
    quarters = {(left > 320, top > 240) for left, top, _, _ in plates}
    assert len(quarters) == 4


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (2, 700)])
def test_extreme_images_are_drawn(size: tuple[int, int]) -> None:
    picture = draw_depths(grey(*size), points_at((0, 0)), np.array([2.0]))
    assert picture.shape[0] >= size[0]
    assert picture.shape[1] > size[1]


@pytest.mark.parametrize("depth", [0.0, -1.0, math.nan, math.inf])
def test_what_is_no_depth(depth: float) -> None:
    with pytest.raises(ValueError, match="depth_m must be positive and finite"):
        draw_depths(grey(48, 80), points_at((1, 1), (2, 2)), np.array([1.0, depth]))


def test_bar_runs_from_near_to_far() -> None:
    picture = draw_depths(grey(480, 640), points_at((100, 60), (400, 300)), np.array([1.0, 8.0])).astype(int)
    near, far = colours(np.array([1.0, 8.0]), 1.0, 8.0).astype(int)
    bar = picture[:, 640:]
    rows_of_near = np.nonzero((np.abs(bar - near).sum(axis=2) < 12).any(axis=1))[0]
    rows_of_far = np.nonzero((np.abs(bar - far).sum(axis=2) < 12).any(axis=1))[0]
    assert rows_of_far.max() < 100
    assert rows_of_near.min() > 400
