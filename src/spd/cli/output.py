"""What a command prints: its result on standard output, everything else on standard error."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

# Wide enough for any table of ours, so that one that goes to a file or a pipe is never folded at 80 columns.
UNFOLDED_WIDTH = 1000


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    title: str | None = None,
    caption: str | None = None,
    text_columns: Collection[str] = (),
) -> None:
    """Print a table on standard output.

    Args:
        columns: the headings.
        rows: one formatted string per column.
        title: a line above.
        caption: a line below: units, sources.
        text_columns: headings of the columns that hold words; the others hold numbers and are right-aligned.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    for column in columns:
        table.add_column(column, justify="left" if column in text_columns else "right")
    for row in rows:
        table.add_row(*row)
    # No markup: a file name may hold square brackets.
    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = UNFOLDED_WIDTH
    console.print(table)


def print_json(document: Any) -> None:
    """Print one JSON document on standard output; what ``--json`` asks for, and then the only thing there."""
    print(json.dumps(document, indent=2, allow_nan=False))


def note(message: str) -> None:
    """Print a line for the person at the terminal, on standard error."""
    print(message, file=sys.stderr)


@contextlib.contextmanager
def progress(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on standard error; yields what advances it. It shows once advanced; ``total`` None is not known yet.

    Example:
        >>> with progress("images", total=3) as advance:
        ...     advance(3)
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    task = bar.add_task(description, total=total)

    def advance(done: int) -> None:
        # It appears with the first step: an error before that stays one line.
        bar.start()
        bar.advance(task, done)

    try:
        yield advance
    finally:
        # One that was never shown would leave an empty line.
        if bar.live.is_started:
            bar.stop()


def has_plots() -> bool:
    """Whether matplotlib is there to draw with; if not, says so once on standard error."""
    from importlib.util import find_spec

    if find_spec("matplotlib") is not None:
        return True
    note("the plots are left out, since matplotlib is not installed: pip install 'spd-depth[plot]'")
    return False
