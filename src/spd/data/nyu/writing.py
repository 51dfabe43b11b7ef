"""Writing a data set from a source: each frame whole or not at all, the manifest last, and any part of it again."""

from __future__ import annotations

import contextlib
import csv
import io
import os
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from spd.data.manifest import CAMERA_COLUMNS, MANIFEST
from spd.data.nyu.source import CAMERA, NyuFrame, NyuSource, Task, count_text, hold_out
from spd.files import remove_leftovers, write_files

_COLUMNS: tuple[str, ...] = ("image", "depth", "split", "scene", *CAMERA_COLUMNS, "depth_scale", "depth_step")
_MOST_THREADS = 8


def write_nyu(
    source: NyuSource, output: Path, *, val: int = 0, progress: Callable[[int], None] | None = None
) -> Mapping[str, int]:
    """Write the frames of a source that are not there yet, check that all are, and write ``manifest.csv`` last.

    A frame's files get their names when they are complete, so what an interrupted run left is taken as it is. Files
    that stay in the source are decoded once, to find the damaged ones.

    Args:
        source: what to import.
        output: the folder; it is made where it is missing.
        val: training frames to hold out as split ``val``, in five contiguous blocks.
        progress: called with the number of frames done since its last call.

    Returns:
        The number of frames of each split.

    Raises:
        ValueError: ``val`` leaves nothing to train on, the folder has the manifest of another data set, or a file of
            the source is damaged. The manifest is then as it was, and the frames before stay for the next run.
        OSError: the folder cannot be written.
    """
    frames = hold_out(source.frames, val)
    output = output.resolve()
    rows = [_row(frame, output) for frame in frames]
    _check_manifest(output / MANIFEST, rows)
    output.mkdir(parents=True, exist_ok=True)
    for folder in sorted({(output / path).parent for frame in frames for path in frame.written}):
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
    wanted = [index for index, frame in enumerate(frames) if not _is_finished(frame, output)]
    if progress is not None and len(wanted) < len(frames):
        progress(len(frames) - len(wanted))
    with contextlib.closing(_in_threads(_writing(task, output) for task in source.tasks(wanted))) as done:
        for _ in done:
            if progress is not None:
                progress(1)
    _check_written(frames, output)
    write_files({output / MANIFEST: _manifest_bytes(rows)})
    return _count(frames)


def _count(frames: Iterable[NyuFrame]) -> dict[str, int]:
    found = Counter(frame.split for frame in frames)
    return {split: found[split] for split in ("train", "val", "test") if found[split]}


def _is_finished(frame: NyuFrame, output: Path) -> bool:
    """Whether all files of a frame are there; one that has none to write is never known to be whole."""
    # A file of no bytes is what some file systems leave after a power cut.
    return bool(frame.written) and all(_size(output / path) > 0 for path in frame.written)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _writing(task: Task, output: Path) -> Callable[[], None]:
    def run() -> None:
        if contents := task():
            # A power cut may leave a file of no bytes, which the next import writes again.
            write_files({output / path: data for path, data in contents.items()}, synced=False)

    return run


def _in_threads(tasks: Iterator[Callable[[], None]]) -> Generator[None, None, None]:
    """Run the tasks in their order, a few at a time, since each holds its frame in memory; yields as each is done.

    Threads suffice: most of the time goes into zlib and libjpeg, which run beside each other.
    """
    workers = min(_MOST_THREADS, os.cpu_count() or 1)
    pending: deque[Future[None]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for task in tasks:
                pending.append(pool.submit(task))
                if len(pending) > 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _check_written(frames: Sequence[NyuFrame], output: Path) -> None:
    if lost := _count(frame for frame in frames if frame.written and not _is_finished(frame, output)):
        raise ValueError(
            f"{output} lacks files of {count_text(lost)} frames just written; does something else change it?"
        )


def _row(frame: NyuFrame, output: Path) -> dict[str, str]:
    return {
        "image": _named(frame.image, output),
        "depth": _named(frame.depth, output),
        "split": frame.split,
        "scene": frame.scene or "",
        **{name: str(value) for name, value in CAMERA._asdict().items()},
        "depth_scale": f"{frame.depth_scale:g}",
        "depth_step": f"{frame.depth_step:g}",
    }


def _named(path: Path, output: Path) -> str:
    """A path as the manifest names it: relative where there is a way from the output, with forward slashes."""
    if path.is_absolute():
        try:
            path = Path(os.path.relpath(path, output))
        except ValueError:
            # Windows: it is on another drive.
            return path.as_posix()
    return path.as_posix()


def _check_manifest(manifest: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Refuse to replace a manifest that lists other frames than this import or a part of it."""
    if not manifest.exists():
        return
    try:
        with manifest.open(newline="", encoding="utf-8") as file:
            listed = {(row["image"], row["depth"]) for row in csv.DictReader(file)}
    except (OSError, KeyError, UnicodeDecodeError, csv.Error):
        listed = {("", "")}
    if foreign := listed - {(row["image"], row["depth"]) for row in rows}:
        first = min(foreign)[0] or "no frames"
        raise ValueError(
            f"{manifest} is of another data set: it lists {first}, which this import does not; give another folder"
        )


def _manifest_bytes(rows: Sequence[Mapping[str, str]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
