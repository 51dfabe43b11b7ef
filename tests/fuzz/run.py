"""Mutated inputs in one process: success, or one line; nothing else. Run by ``make fuzz``, and shortly by the tests.

A process of its own, since tests check the types of every call, which nobody else does.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from tests.fuzz.targets import Target, make_targets


class Broken(Exception):
    """An input that was neither answered nor refused in one line."""


def outcome(target: Target) -> str:
    """What a reader makes of the files as they are: ``taken`` or ``refused``.

    Raises:
        Broken: neither.
    """
    said = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            answer = target.read()
    except (ValueError, OSError) as error:
        # A file is named, as the command line tells it.
        if isinstance(error, OSError) and not (error.strerror and error.filename is not None):
            raise Broken(f"names no file: {error!r}") from error
        _require_one_line(str(error))
        return "refused"
    except BaseException as error:
        raise Broken(traceback.format_exc()) from error
    if isinstance(answer, int) and answer == 2:
        _require_one_line(said.getvalue())
        return "refused"
    return "taken"


def _require_one_line(message: str) -> None:
    if not message.strip() or "\n" in message.strip() or "Traceback" in message:
        raise Broken(f"is not one line: {message}")


def fuzz(targets: dict[str, Target], inputs: int, seed: int, kept: Path) -> Counter[str]:
    """How many were taken and refused; inputs that broke are kept, and told on standard error."""
    generator = np.random.default_rng(seed)
    whole = {path: path.read_bytes() for target in targets.values() for path in target.files}
    for name, target in targets.items():
        if outcome(target) != "taken":
            raise Broken(f"{name} is refused as it is")
    counted: Counter[str] = Counter()
    names = list(targets)
    for number in range(inputs):
        name = names[number % len(names)]
        target = targets[name]
        path = list(target.files)[int(generator.integers(len(target.files)))]
        damaged = target.files[path](whole[path], generator)
        path.write_bytes(damaged)
        try:
            counted[outcome(target)] += 1
        except Broken as error:
            counted["broken"] += 1
            kept.mkdir(exist_ok=True)
            (kept / f"{seed}-{number}{path.suffix}").write_bytes(damaged)
            print(f"input {number} of seed {seed}, {name}: {error}", file=sys.stderr)
        finally:
            path.write_bytes(whole[path])
    return counted


def main() -> int:
    """1 where an input broke."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kept", type=Path, default=Path("fuzz-failures"), help="folder for inputs that broke")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="spd-fuzz-"))
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            targets = make_targets(folder)
        start = time.perf_counter()
        counted = fuzz(targets, options.inputs, options.seed, options.kept)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    seconds = time.perf_counter() - start
    told = ", ".join(f"{counted[word]} {word}" for word in ("taken", "refused", "broken"))
    print(f"{options.inputs} inputs of {len(targets)} kinds, seed {options.seed}: {told}, in {seconds:.0f} s")
    return int(counted["broken"] > 0)


if __name__ == "__main__":
    sys.exit(main())
