"""Counts, held-out blocks and names, for every layout alike."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spd.data.nyu.source import (
    NyuFrame,
    NyuSource,
    Task,
    check_counts,
    hold_out,
    natural_key,
    room_type,
    safe_parts,
    those_present,
)


def frames_of(num: int, tests: Sequence[int] = ()) -> list[NyuFrame]:
    """Frames named by their place; those of ``tests`` have split test."""
    return [
        NyuFrame(Path(f"rgb/{k}.png"), Path(f"depth/{k}.png"), "test" if k in tests else "train") for k in range(num)
    ]


def val_places(frames: Sequence[NyuFrame]) -> list[int]:
    """Places of the held-out frames among those that are not of the test split, in the order of names."""
    known = sorted((frame for frame in frames if frame.split != "test"), key=lambda frame: int(frame.image.stem))
    return [place for place, frame in enumerate(known) if frame.split == "val"]


def test_the_blocks_of_the_labelled_set_are_those_of_the_recorded_results() -> None:
    tests = range(0, 1308, 2)
    frames = hold_out(frames_of(795 + len(tests), tests), 100)
    assert val_places(frames) == [start + k for start in (70, 230, 390, 550, 710) for k in range(20)]
    assert all((frame.split == "test") == (int(frame.image.stem) in tests) for frame in frames)


@settings(deadline=None)
@given(st.integers(2, 200), st.floats(0, 1), st.integers(0, 9))
def test_five_contiguous_blocks_are_held_out(total: int, part: float, seed: int) -> None:
    num = 1 + int(part * (total - 2))
    order = random.Random(seed).sample(range(total), total)
    frames = frames_of(total)
    held = hold_out([frames[k] for k in order], num)
    assert [frame.image for frame in held] == [frames[k].image for k in order]
    places = val_places(held)
    assert len(places) == num
    runs = 1 + sum(second > first + 1 for first, second in itertools.pairwise(places))
    assert runs <= 5
    if total >= 100 and num <= total // 2:
        assert runs == min(num, 5)


def test_a_shuffled_list_is_cut_by_name() -> None:
    names = [f"kitchen_0001/{k}" for k in (115, 6, 37, 1, 8, 9, 12)] + ["attic_0001/9", "study_0001/1", "study_0001/0"]
    frames = [NyuFrame(Path(f"{name}.jpg"), Path(f"{name}.png"), "train") for name in names]
    # By name: attic 9; kitchen 1, 6, 8, 9, 12, 37, 115; study 0, 1. A block of one and one of none in each fifth of 3.
    held = [frame.image.as_posix() for frame in hold_out(frames, 2) if frame.split == "val"]
    assert held == ["kitchen_0001/1.jpg", "kitchen_0001/9.jpg"]


@pytest.mark.parametrize("num", [-1, 4, 5])
def test_something_is_left_to_train_on(num: int) -> None:
    with pytest.raises(ValueError, match=rf"val must be at least 0 and less than the 4 training frames, got {num}"):
        hold_out(frames_of(6, (0, 1)), num)
    assert hold_out(frames_of(6, (0, 1)), 0) == tuple(frames_of(6, (0, 1)))


def source_of(frames: Sequence[NyuFrame]) -> NyuSource:
    def tasks(wanted: Sequence[int]) -> Iterator[Task]:
        yield from ()

    return NyuSource(
        layout="bts", path=Path("nyu"), frames=tuple(frames), published={"train": 3, "test": 2}, tasks=tasks
    )


def test_counts_are_those_of_the_published_set() -> None:
    check_counts(source_of(frames_of(5, (1, 3))), allow_partial=False)
    for frames in (frames_of(4, (1, 3)), frames_of(6, (1, 3)), frames_of(5, (1,))):
        with pytest.raises(ValueError, match="the whole set has 3 train and 2 test; is the download complete"):
            check_counts(source_of(frames), allow_partial=False)
        check_counts(source_of(frames), allow_partial=True)
    with pytest.raises(ValueError, match="nyu holds no frame of layout bts"):
        check_counts(source_of([]), allow_partial=True)


def test_missing_files_are_named_and_counted() -> None:
    names = [("a.jpg", "a.png"), ("b.jpg", "b.png"), ("c.jpg", "c.png")]
    there = {"a.jpg", "a.png", "b.jpg", "c.png"}
    assert those_present(Path("nyu"), names, there.__contains__, allow_partial=True) == [0]
    with pytest.raises(ValueError, match=r"nyu lacks b.png and so on, files of 2 of the 3 listed frames"):
        those_present(Path("nyu"), names, there.__contains__, allow_partial=False)
    with pytest.raises(ValueError, match=r"nyu lacks a.jpg and so on, files of 3 of the 3"):
        those_present(Path("nyu"), names, lambda name: False, allow_partial=False)


@pytest.mark.parametrize(
    ("folder", "room"),
    [
        ("kitchen_0028b", "kitchen"),
        ("living_room_0038_out", "living_room"),
        ("nyu_office_0", "nyu_office"),
        ("office_kitchen_0003", "office_kitchen"),
        ("bathroom_0001_01", "bathroom"),
        ("bathroom", "bathroom"),
        ("", None),
    ],
)
def test_room_types(folder: str, room: str | None) -> None:
    assert room_type(folder) == room


@settings(deadline=None)
@given(st.lists(st.integers(0, 99_999), min_size=1))
def test_natural_order_is_that_of_the_numbers(numbers: list[int]) -> None:
    paths = sorted((Path(f"take_{number}/x.png") for number in numbers), key=natural_key)
    assert [int(path.parent.name[5:]) for path in paths] == sorted(numbers)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["..", ".", "", "a", "b.h5", "/", "\\", "c:", "\0"]), min_size=1, max_size=5))
def test_no_name_leads_outside(pieces: list[str]) -> None:
    name = "/".join(pieces)
    try:
        parts = safe_parts(Path("x.tar"), name)
    except ValueError:
        assert not set(pieces) <= {"a", "b.h5", "."} or set(pieces) == {"."}
    else:
        assert Path("/out", *parts).resolve().is_relative_to("/out")
        assert parts == tuple(piece for piece in pieces if piece in ("a", "b.h5"))
