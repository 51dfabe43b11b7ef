"""Which frames an epoch takes of several data sets."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spd.data.mixture import Draw, Mixture, Share


def share(number: int, weight: float = 1.0, balance: float = 0.0, scenes: int = 1) -> Share:
    return Share(tuple(f"scene{index % scenes}" for index in range(number)), weight, balance)


def test_one_set_is_a_permutation_of_its_frames():
    mixture = Mixture((share(11),), seed=3)
    for epoch in range(4):
        draws = mixture.epoch(epoch)
        assert sorted(draw.frame for draw in draws) == list(range(11))
        assert {draw.repeat for draw in draws} == {0}
    assert mixture.epoch(0) != mixture.epoch(1)
    assert mixture.epoch(0) == Mixture((share(11),), seed=3).epoch(0)
    assert mixture.epoch(0) != Mixture((share(11),), seed=4).epoch(0)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=2, max_size=4),
    weights=st.lists(st.floats(0.1, 10), min_size=4, max_size=4),
    epoch=st.integers(0, 5),
    seed=st.integers(0, 100),
)
def test_each_set_gives_its_part_and_every_frame_its_own(sizes: list[int], weights: list[float], epoch: int, seed: int):
    mixture = Mixture(tuple(share(n, w) for n, w in zip(sizes, weights, strict=False)), seed)
    draws = mixture.epoch(epoch)
    total = sum(sizes)
    assert len(draws) == len(mixture) == total
    first = 0
    for size, weight in zip(sizes, weights, strict=False):
        frames = Counter(draw.frame for draw in draws if first <= draw.frame < first + size)
        expected = total * weight / sum(weights[: len(sizes)])
        assert abs(frames.total() - expected) < 1
        per_frame = frames.total() / size
        assert all(abs(frames[frame] - per_frame) < 1 for frame in range(first, first + size))
        first += size


def test_no_sample_of_an_epoch_comes_twice():
    draws = Mixture((share(3, weight=9.0), share(20, weight=1.0)), seed=0).epoch(2)
    assert max(Counter(draw.frame for draw in draws).values()) >= 6
    assert len(set(draws)) == len(draws) == 23
    frames = [draw for draw in draws if draw.frame == 0]
    assert sorted(draw.repeat for draw in frames) == list(range(len(frames)))
    assert isinstance(draws[0], Draw)


@pytest.mark.parametrize(("balance", "small", "large"), [(0.0, 0.1, 0.9), (1.0, 0.5, 0.5), (0.5, 0.25, 0.75)])
def test_scenes_of_many_frames_are_held_back(balance: float, small: float, large: float):
    """Two scenes of 10 and 90 frames: n·n^-b over the sum, computed by hand."""
    scenes = ("a",) * 10 + ("b",) * 90
    mixture = Mixture((Share(scenes, 1.0, balance), share(100)), seed=0)
    counts = Counter(
        scenes[draw.frame] for epoch in range(20) for draw in mixture.epoch(epoch) if draw.frame < len(scenes)
    )
    assert counts["a"] / counts.total() == pytest.approx(small, abs=0.01)
    assert counts["b"] / counts.total() == pytest.approx(large, abs=0.01)


def test_frames_without_a_label_are_scenes_of_their_own():
    probabilities = Share(("", "", "a", "a"), 1.0, 1.0).frame_probabilities()
    assert probabilities.tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 6, 1 / 6])
