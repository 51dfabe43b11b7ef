"""Every ``spd`` command that the README and the help texts show is one that parses."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from spd.cli.main import COMMANDS, overview, parse

ROOT = Path(__file__).parents[2]


def commands_in(text: str) -> list[str]:
    """The ``spd`` lines of a text, continued lines joined; a placeholder such as FOLDER is an argument like any."""
    joined = text.replace("\\\n", " ")
    return [match.strip() for match in re.findall(r"^[ \t]*(?:\$ )?(spd [^\n#]+)", joined, flags=re.MULTILINE)]


def fenced(text: str) -> str:
    return "\n".join(re.findall(r"^```(?:sh|bash|console)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL))


def shown() -> list[str]:
    lines = commands_in(fenced((ROOT / "README.md").read_text(encoding="utf-8")))
    lines += commands_in(overview())
    for command in COMMANDS.values():
        examples = commands_in(import_module(command.module).__doc__ or "")
        assert examples, f"{command.module} shows no example"
        lines += examples
    return list(dict.fromkeys(lines))


def test_fences_and_continued_lines_are_found() -> None:
    text = "spd not fenced\n```sh\n$ spd info --json  # why\nspd train x \\\n  --seed 1\n```\n"
    assert [line.split() for line in commands_in(fenced(text))] == [
        ["spd", "info", "--json"],
        ["spd", "train", "x", "--seed", "1"],
    ]


@pytest.mark.parametrize("line", shown())
def test_shown_command_parses(line: str) -> None:
    words = shlex.split(line)[1:]
    if words[-1] in ("--help", "--version"):
        with pytest.raises(SystemExit, match="0"):
            parse(words)
    else:
        parse(words)
