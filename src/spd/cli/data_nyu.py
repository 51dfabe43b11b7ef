"""Make a data set of NYU Depth V2, from any of the four forms in which people have it.

SOURCE is the labelled set (nyu_depth_v2_labeled.mat beside splits.mat), the sync folder of BTS with its lists, the tar
shards of the Hugging Face copy, or nyu_data.zip of DenseDepth; docs/data.md says where each comes from. Files that
already are images stay where they are. An interrupted import continues where it stopped.

Example:
  spd data nyu downloads/nyu_depth_v2_labeled.mat nyu --val 100
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from spd.cli.output import note, progress


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of ``spd data nyu``."""

    source: tyro.conf.Positional[Path]
    """Folder, or .mat, .tar or .zip file, of the data set as downloaded."""
    output: tyro.conf.Positional[Path]
    """Folder to write."""
    layout: Literal["labeled", "bts", "hf", "densedepth"] | None = None
    """What SOURCE is; None tells by the names of its files."""
    depth: Literal["filled", "raw"] | None = None
    """Depth with its holes filled, as None takes it, or as measured; labeled only."""
    lists: Path | None = None
    """Folder with nyudepthv2_train_files_with_gt.txt and the test list; None is SOURCE. bts only."""
    val: int = 0
    """Training frames to hold out as split val, in five contiguous blocks."""
    allow_partial: tyro.conf.FlagCreatePairsOff[bool] = False
    """Import what there is of an incomplete SOURCE, in place of refusing it."""


def run(options: Options) -> None:
    """Recognise, import, count."""
    from spd.data.nyu import open_nyu, write_nyu
    from spd.data.nyu.source import count_text

    # The table of contents of a tar is spread over all of it, which takes a slow disk minutes.
    note(f"looking through {options.source}")
    source = open_nyu(
        options.source,
        options.layout,
        depth=options.depth,
        lists=options.lists,
        allow_partial=options.allow_partial,
    )
    note(f"{source.path} has layout {source.layout}, {count_text(source.counts)} frames")
    for remark in source.remarks:
        note(remark)
    with progress("frames", len(source.frames)) as advance:
        counts = write_nyu(source, options.output, val=options.val, progress=advance)
    note(f"wrote {options.output / 'manifest.csv'}: {count_text(counts)} frames")
