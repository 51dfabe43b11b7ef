"""Mutated inputs in one process: success, or one line; nothing else.

``SPD_FUZZ`` of the environment is how many inputs, ``SPD_FUZZ_SEED`` which; ``make fuzz`` asks for ten thousand.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from tests.fuzz.targets import Target, make_targets

_INPUTS = int(os.environ.get("SPD_FUZZ", "130"))
_SEED = int(os.environ.get("SPD_FUZZ_SEED", "0"))


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    return make_targets(tmp_path_factory.mktemp("fuzz"))


def require_one_line(error: ValueError | OSError) -> None:
    """What the command line would say of an error."""
    # A file is named, as the command line tells it.
    assert not isinstance(error, OSError) or (error.strerror and error.filename is not None), repr(error)
    message = str(error).strip()
    assert message, repr(error)
    assert "\n" not in message, message
    assert "Traceback" not in message, message


def outcome(target: Target, capsys: pytest.CaptureFixture[str]) -> str:
    """What a reader made of the files as they are; fails where it is neither an answer nor one line."""
    capsys.readouterr()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer = target.read()
    except (ValueError, OSError) as error:
        require_one_line(error)
        return "refused"
    said = capsys.readouterr().err
    if isinstance(answer, int) and answer == 2:
        assert said.count("\n") == 1, said
        return "refused"
    assert "Traceback" not in said
    return "taken"


def test_mutated_inputs_are_answered_or_refused_in_one_line(
    targets: dict[str, Target], capsys: pytest.CaptureFixture[str]
) -> None:
    generator = np.random.default_rng(_SEED)
    whole = {path: path.read_bytes() for target in targets.values() for path in target.files}
    counted: Counter[str] = Counter()
    for target in targets.values():
        assert outcome(target, capsys) == "taken"
    names = list(targets)
    for number in range(_INPUTS):
        name = names[number % len(names)]
        target = targets[name]
        path = list(target.files)[int(generator.integers(len(target.files)))]
        damaged = target.files[path](whole[path], generator)
        path.write_bytes(damaged)
        try:
            counted[outcome(target, capsys)] += 1
        except BaseException as error:
            kept: Path = path.with_name(f"failed-{number}{path.suffix}")
            kept.write_bytes(damaged)
            raise AssertionError(f"input {number} of seed {_SEED}, {name}, kept as {kept}: {error!r}") from error
        finally:
            path.write_bytes(whole[path])
    with capsys.disabled():
        print(f"\n{_INPUTS} inputs of seed {_SEED}: {dict(counted)}")  # noqa: T201  What `make fuzz` is asked for.
    assert counted["refused"] > _INPUTS // 4
    assert counted["taken"] > 0
