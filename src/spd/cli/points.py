"""Pixels from a file or from standard input."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

from spd.files import read_npy

STANDARD_INPUT = Path("-")


def read_points(path: Path) -> Any:
    """What a file says, as something for NumPy: .npy, .json or .csv, by its suffix.

    Args:
        path: the file; ``-`` is standard input, JSON where that begins with a bracket and CSV otherwise.

    Raises:
        ValueError: it cannot be read as points.
        OSError: there is no such file.
    """
    if path == STANDARD_INPUT:
        path, contents = Path("standard input"), sys.stdin.buffer.read()
        suffix = ".json" if contents.lstrip()[:1] in (b"[", b"{") else ".csv"
    else:
        suffix = path.suffix.lower()
        if suffix == ".npy":
            return read_npy(path)
        contents = path.read_bytes()
    try:
        text = contents.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be text in UTF-8: {error}") from None
    return _parse_csv(path, text) if suffix == ".csv" else _parse_json(path, text)


def _parse_csv(path: Path, text: str) -> list[tuple[float, float]]:
    """Rows of two numbers, or after a header, what is in its columns u and v."""
    try:
        rows = [
            (line, [cell.strip() for cell in row]) for line, row in enumerate(csv.reader(io.StringIO(text)), 1) if row
        ]
    except csv.Error as error:
        raise ValueError(f"{path} is not CSV: {error}") from None
    columns, width = (0, 1), 2
    if rows and not all(_is_number(cell) for cell in rows[0][1]):
        header = [cell.lower() for cell in rows.pop(0)[1]]
        if header.count("u") != 1 or header.count("v") != 1:
            raise ValueError(f"{path} must have two numbers in a row or a header with u and v, got {_shown(header)}")
        columns, width = (header.index("u"), header.index("v")), len(header)
    points = []
    for line, row in rows:
        if len(row) != width or not all(_is_number(row[column]) for column in columns):
            raise ValueError(f"{path} line {line} must be {width} cells with the numbers u and v, got {_shown(row)}")
        points.append((float(row[columns[0]]), float(row[columns[1]])))
    return points


def _shown(cells: list[str]) -> str:
    """On one line, though a cell in quotes may have several."""
    return " ".join(",".join(cells).split())[:80]


def _parse_json(path: Path, text: str) -> list[Any]:
    """A list of [u, v] or of objects with u and v, as [u, v] each."""
    try:
        items = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(items, list):
        raise ValueError(f"{path} must be a list of points, got {type(items).__name__}")
    points = []
    for index, item in enumerate(items):
        pair = [item.get("u"), item.get("v")] if isinstance(item, dict) else item
        if not (isinstance(pair, list) and len(pair) == 2 and all(type(number) in (int, float) for number in pair)):
            got = json.dumps(item)
            raise ValueError(f'{path} must hold points [u, v] or {{"u": .., "v": ..}}, got {got[:80]} at index {index}')
        points.append(pair)
    return points


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
