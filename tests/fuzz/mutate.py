"""Damaged copies of what a user gives: bytes changed, cut, repeated; JSON and CSV with other values."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

_ODD: tuple[Any, ...] = (
    None, True, -1, 0, 7, 1e308, -0.5, 10**30, "", "7", "é\u2028", "../..", [], [1], [[1, 2], 3], {}, {"u": 1},
)  # fmt: skip
_ODD_CELLS = ("", "nan", "inf", "-1", "1e999", "é", '"', "a\x00b", "..", "0x10", "1,2", "9" * 400)


def mutated_bytes(whole: bytes, generator: np.random.Generator) -> bytes:
    """One to eight changes anywhere, or the whole cut short, emptied or with something in its midst."""
    damaged = bytearray(whole)
    kind = generator.integers(5)
    if kind == 0:
        return bytes(damaged[: generator.integers(len(damaged) + 1)])
    if kind == 1:
        place = int(generator.integers(len(damaged) + 1))
        damaged[place:place] = generator.bytes(int(generator.integers(1, 40)))
        return bytes(damaged)
    # Headers are where formats break: half of the changes go to the first bytes.
    end = len(damaged) if kind == 2 else min(len(damaged), 128)
    for _ in range(int(generator.integers(1, 9))):
        if end:
            damaged[int(generator.integers(end))] = int(generator.integers(256))
    return bytes(damaged)


def mutated_json(value: Any, generator: np.random.Generator) -> Any:
    """The value with one part of it, at any depth, taken away, renamed or something else."""
    if generator.random() < 0.15 or not isinstance(value, (dict, list)) or not value:
        return _ODD[int(generator.integers(len(_ODD)))]
    if isinstance(value, dict):
        name = list(value)[int(generator.integers(len(value)))]
        changed = dict(value)
        kind = generator.integers(6)
        if kind == 0:
            del changed[name]
        elif kind == 1:
            changed[name + "_"] = changed.pop(name)
        else:
            changed[name] = mutated_json(value[name], generator)
        return changed
    place = int(generator.integers(len(value)))
    return [mutated_json(item, generator) if index == place else item for index, item in enumerate(value)]


def mutated_json_bytes(whole: bytes, generator: np.random.Generator) -> bytes:
    """The document with other values, or its bytes damaged."""
    if generator.random() < 0.3:
        return mutated_bytes(whole, generator)
    return json.dumps(mutated_json(json.loads(whole), generator)).encode()


def mutated_csv_bytes(whole: bytes, generator: np.random.Generator) -> bytes:
    """The table with another cell, a line more or less, or its bytes damaged."""
    if generator.random() < 0.3:
        return mutated_bytes(whole, generator)
    lines = [line.split(",") for line in whole.decode().splitlines()]
    row = lines[int(generator.integers(len(lines)))]
    kind = generator.integers(4)
    if kind == 0:
        row[int(generator.integers(len(row)))] = _ODD_CELLS[int(generator.integers(len(_ODD_CELLS)))]
    elif kind == 1:
        row.append("7")
    elif kind == 2:
        row.pop()
    else:
        lines.remove(row)
    return "\n".join(map(",".join, lines)).encode("utf-8", "surrogatepass")
