"""``spd COMMAND ...``: finds the command, parses its options, runs it, and turns errors into one line.

A command is one module, named in ``COMMANDS``, that holds

- a docstring: what the command does, then ``Example:`` and an indented command line that runs. It is the help text;
- ``Options``: a frozen keyword-only dataclass, one line of docstring per field, from which tyro makes the flags. A
  field marked ``tyro.conf.Positional`` is an argument in its place; ``json: FlagCreatePairsOff[bool] = False`` of tyro
  is the flag that every command with a table has;
- where a flag has a shorter name, ``SHORT_FLAGS``: long by short;
- where a switch may also take a word, ``VALUED_SWITCHES``: the words by the switch;
- ``run(options: Options) -> None``: does it. Its heavy imports (torch, lightning, matplotlib, PIL) are inside, so that
  help answers at once. It raises ``ValueError`` for what the user did (or lets ``OSError`` through), and
  ``spd.cli.errors.CommandFailed`` for a run that failed. It prints with ``spd.cli.output``.

Only the chosen command's module is imported.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from spd.cli.errors import STANDARD_OUTPUT, UsageError, one_line_warnings, report
from spd.files import expanded


class Command(NamedTuple):
    """Where a command is, and its line in ``spd --help``."""

    module: str
    summary: str


COMMANDS: Mapping[str, Command] = {
    "train": Command("spd.cli.train", "Train a recipe, any field of which is a flag."),
    "predict": Command("spd.cli.predict", "Depth in metres at pixels of an image."),
    "calibrate": Command("spd.cli.calibrate", "Correct a model's scale by distances that you have measured."),
    "evaluate": Command("spd.cli.evaluate", "Score models side by side on a data set."),
    "ablate": Command("spd.cli.ablate", "Measure what each part of the model is worth, by paired trainings."),
    "export": Command("spd.cli.export", "Write a checkpoint as graphs for ONNX Runtime or OpenVINO."),
    "benchmark": Command("spd.cli.benchmark", "Time models side by side."),
    "info": Command("spd.cli.info", "Parameters and multiply-accumulates of a model, by component."),
    "data rooms": Command("spd.cli.data_rooms", "Write a data set of procedural rooms."),
    "data nyu": Command("spd.cli.data_nyu", "Make a data set of NYU Depth V2 as downloaded."),
}


class Call(NamedTuple):
    """A command line that has been understood."""

    run: Callable[[Any], None]
    options: Any


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (by default this process's) and return its exit status.

    0 is success, 1 a run that failed, 2 something for the user to correct, 130 an interrupt, 143 a training that
    SIGTERM stopped.
    """
    _open_closed_streams()
    try:
        with one_line_warnings():
            status = _run(sys.argv[1:] if arguments is None else arguments)
        _flush()
    except BaseException as error:
        if os.environ.get("SPD_DEBUG") == "1":
            raise
        return report(error)
    return status


def _open_closed_streams() -> None:
    """Where a shell closed them, as ``>&-`` does, what is written goes nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  Open as long as the process.


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, STANDARD_OUTPUT) from error


def _run(arguments: Sequence[str]) -> int:
    try:
        call = parse(arguments)
        call.run(call.options)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


def parse(arguments: Sequence[str]) -> Call:
    """Find the command and its options; imports that command's module and no other.

    Raises:
        UsageError: there is no such command or option, or a value does not fit.
        SystemExit: with 0, once help or the version is printed.
    """
    words = list(arguments)
    if words[:1] == ["--version"]:
        import spd

        print(f"spd {spd.__version__}")
        raise SystemExit(0)
    for length in (2, 1):
        name = " ".join(words[:length])
        if name in COMMANDS:
            module = import_module(COMMANDS[name].module)
            return Call(module.run, with_homes(parse_options(f"spd {name}", module, words[length:])))
    group = words[0] if words and any(name.startswith(f"{words[0]} ") for name in COMMANDS) else ""
    rest = words[1:] if group else words
    if rest and rest[0] in ("-h", "--help"):
        print(overview(group))
        raise SystemExit(0)
    prog = f"spd {group}".strip()
    choices = ", ".join(name.removeprefix(f"{group} ") for name in COMMANDS if name.startswith(group))
    problem = f"unknown command {rest[0]!r}" if rest else "a command is missing"
    raise UsageError(prog, f"{problem}; expected {choices}")


def overview(group: str = "") -> str:
    """The help text of ``spd``, or that of a group of commands such as ``data``."""
    names = [name for name in COMMANDS if name.startswith(group)]
    width = max(map(len, names))
    lines = "\n".join(f"  {name:<{width}}  {COMMANDS[name].summary}" for name in names)
    prog = f"spd {group}".strip()
    return f"""usage: {prog} COMMAND ...

Sparse Query-Point Depth: how far away is this pixel, in metres?

commands:
{lines}

options:
  -h, --help  Show this, or after a command that command's options and an example.
  --version   Show the version.

Example:
  spd data rooms rooms --num 400 --seed 0
  spd train rooms-atto --data.root rooms --output runs/rooms
  spd predict photo.jpg --checkpoint runs/rooms --points 320,240 100,50

SPD_DEBUG=1 in the environment shows the traceback of an error in place of its one line."""


def parse_options(prog: str, module: Any, words: Sequence[str]) -> Any:
    """What tyro makes of a command's words; its boxed errors come out as one :class:`UsageError`."""
    import tyro

    captured = io.StringIO()
    try:
        with contextlib.redirect_stderr(captured):
            return tyro.cli(
                module.Options,
                prog=prog,
                description=module.__doc__,
                args=with_values(
                    switches(words, getattr(module, "SHORT_FLAGS", {})), getattr(module, "VALUED_SWITCHES", {})
                ),
                config=(tyro.conf.PositionalMetavarFromFieldName,),
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise UsageError(prog, unboxed(captured.getvalue())) from None


def switches(words: Sequence[str], short_flags: Mapping[str, str] | None = None) -> list[str]:
    """Flags as people write them to those of tyro: short names to long, and true or false after a switch into its name.

    Example:
        >>> switches(["--model.pretrained", "false", "--resume=True", "--seed", "1"])
        ['--model.no-pretrained', '--resume', '--seed', '1']
        >>> switches(["--model", "bilinear"], {"--model": "--model.architecture"})
        ['--model.architecture', 'bilinear']
    """
    rewritten: list[str] = []
    for given in words:
        flag, equals, value = given.partition("=")
        word = (short_flags or {}).get(flag, flag) + equals + value
        option, equals, value = word.partition("=")
        if not equals and rewritten and rewritten[-1].startswith("--"):
            option, value = rewritten[-1], word
        if not option.startswith("--") or "=" in option or value.lower() not in ("true", "false"):
            rewritten.append(word)
            continue
        if not equals:
            rewritten.pop()
        if value.lower() == "false":
            head, dot, last = option.removeprefix("--").rpartition(".")
            option = f"--{head}{dot}no-{last}"
        rewritten.append(option)
    return rewritten


def with_values(words: Sequence[str], valued_switches: Mapping[str, Sequence[str]]) -> list[str]:
    """The words with True or False after a switch that may also take one of some words, and stands alone.

    Example:
        >>> with_values(["--resume", "--seed", "1", "--no-resume", "--resume", "auto"], {"--resume": ("auto",)})
        ['--resume', 'True', '--seed', '1', '--resume', 'False', '--resume', 'auto']
    """
    completed: list[str] = []
    for word, following in zip(words, [*words[1:], ""], strict=False):
        positive = word.replace("--no-", "--", 1)
        if positive not in valued_switches:
            completed.append(word)
        elif positive != word:
            completed += [positive, "False"]
        else:
            completed += [word] if following in valued_switches[word] else [word, "True"]
    return completed


def with_homes(options: Any) -> Any:
    """The options with ``~`` expanded in paths: a shell does not in ``--output=~/runs``."""
    from dataclasses import fields, is_dataclass, replace

    changes = {}
    for field in fields(options):
        value = getattr(options, field.name)
        if is_dataclass(value):
            changed: Any = with_homes(value)
        elif isinstance(value, Path):
            changed = expanded(value)
        elif isinstance(value, tuple) and any(isinstance(item, Path) for item in value):
            changed = tuple(expanded(item) if isinstance(item, Path) else item for item in value)
        else:
            continue
        if changed != value:
            changes[field.name] = changed
    return replace(options, **changes) if changes else options


def unboxed(text: str) -> str:
    """The first paragraph of tyro's boxed message, and the options it suggests instead, on one line."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    rows = [line.strip("│ ") for line in plain.splitlines() if not line.startswith(("╭", "╰"))]
    rows = ["" if re.fullmatch(r"[-─]+", row) else row for row in rows]
    if "╭" not in plain:
        # Where the terminal has no UTF-8, the title is a first paragraph in place of the frame.
        rows = rows[1:]
    first, *others = "\n".join(rows).strip().split("\n\n")
    kept = [re.sub(r"^Error parsing (__tyro-dummy-inner__\.|[A-Z]\w*: )?", "", first)]
    for paragraph in others:
        if paragraph.startswith(("Unrecognized", "Available")):
            kept.append(paragraph)
        elif paragraph.startswith("Perhaps"):
            flags = dict.fromkeys(re.findall(r"--[\w.-]+", paragraph))
            kept.append("did you mean " + ", ".join(flag for flag in flags if flag != "--help"))
    message = "; ".join(" ".join(part.split()).rstrip(".:") for part in kept)
    return message[:1].lower() + message[1:]


if __name__ == "__main__":
    sys.exit(main())
