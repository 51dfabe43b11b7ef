"""From a path to its layout, and from there to a data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from spd.config import require_choice
from spd.data.nyu import bts, densedepth, hf, labeled
from spd.data.nyu.source import NyuSource, check_counts, count_text
from spd.data.nyu.writing import write_nyu

Layout = Literal["labeled", "bts", "hf", "densedepth"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
_SIGNS: Mapping[str, str] = {
    "labeled": labeled.NAME,
    "bts": bts.TRAIN_LIST,
    "hf": "train-*.tar, or train/*/*.h5",
    "densedepth": f"{densedepth.ARCHIVE}, or {densedepth.TRAIN_LIST}",
}


def import_nyu(
    source: Path,
    output: Path,
    layout: Layout | None = None,
    *,
    depth: Literal["filled", "raw"] | None = None,
    lists: Path | None = None,
    val: int = 0,
    allow_partial: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Mapping[str, int]:
    """Make a data set with a manifest from a copy of NYU Depth V2; :func:`open_nyu`, then :func:`write_nyu`.

    Files that already are images are not copied: the manifest refers to them where they are. What an earlier run
    wrote is taken as it is. The manifest comes last and at once, so a folder that has one is whole.

    Args:
        source: folder or file, see :mod:`spd.data.nyu.labeled`, ``bts``, ``hf`` and ``densedepth``.
        output: folder of the data set.
        layout: what the source is; None recognises it.
        depth: ``filled`` (None is that) or ``raw``, for ``labeled`` alone.
        lists: folder of the lists, for ``bts`` alone; None is ``source``.
        val: training frames to hold out as split ``val``, in five contiguous blocks.
        allow_partial: import what there is of an incomplete source.
        progress: called with the number of frames done since its last call.

    Returns:
        The number of frames of each split.

    Raises:
        ValueError: the source is not there, of no or of two known layouts, incomplete, or has a damaged file; an
            option is of another layout; ``val`` leaves nothing to train on; or ``output`` holds another data set.
            There is no manifest then, unless there was one.
        OSError: ``output`` cannot be written.
    """
    opened = open_nyu(source, layout, depth=depth, lists=lists, allow_partial=allow_partial)
    return write_nyu(opened, output, val=val, progress=progress)


def open_nyu(
    source: Path,
    layout: Layout | None = None,
    *,
    depth: Literal["filled", "raw"] | None = None,
    lists: Path | None = None,
    allow_partial: bool = False,
) -> NyuSource:
    """Find out what there is to import, and that it is complete; arguments and errors as of :func:`import_nyu`.

    Lists and tables of contents are read, images are not.
    """
    # Not resolved: the hub's cache has links whose names say what they are, to files whose names do not.
    source = source.absolute()
    if not source.exists():
        raise ValueError(f"there is no {source}")
    if lists is not None and not lists.is_dir():
        raise ValueError(f"lists must be a folder, got {lists}")
    if layout is not None:
        require_choice("layout", layout, LAYOUTS)
    if depth is not None:
        require_choice("depth", depth, ("filled", "raw"))
    if layout is None:
        layout = recognise(source, lists)
    for option, value, owner in (("depth", depth, "labeled"), ("lists", lists, "bts")):
        if value is not None and layout != owner:
            raise ValueError(f"{option} is an option of layout {owner}, this is {layout}")
    if layout == "labeled":
        opened = labeled.open_labeled(source, depth or "filled")
    elif layout == "bts":
        opened = bts.open_bts(source, lists, allow_partial)
    elif layout == "hf":
        opened = hf.open_hf(source)
    else:
        opened = densedepth.open_densedepth(source, allow_partial)
    check_counts(opened, allow_partial)
    if opened.counts != opened.published:
        partial = f"this is a part of the set, which has {count_text(opened.published)} frames"
        return replace(opened, remarks=(*opened.remarks, partial))
    return opened


def recognise(source: Path, lists: Path | None = None) -> Layout:
    """The layout of a source, from the names of its files.

    Raises:
        ValueError: it looks like none or like several.
    """
    looks_like = {
        "labeled": labeled.recognises(source),
        "bts": bts.recognises(source, lists),
        "hf": hf.recognises(source),
        "densedepth": densedepth.recognises(source),
    }
    found: list[Layout] = [layout for layout in LAYOUTS if looks_like[layout]]
    if not found:
        signs = "; ".join(f"{layout}: {sign}" for layout, sign in _SIGNS.items())
        raise ValueError(f"cannot tell the layout of {source} ({signs})")
    if len(found) > 1:
        raise ValueError(f"{source} looks like {' and '.join(found)}; say which with --layout")
    return found[0]
