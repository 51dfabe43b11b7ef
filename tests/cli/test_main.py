from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import pytest
import tyro

from spd.cli import main as cli
from spd.cli.errors import CommandFailed, one_line_warnings
from spd.cli.main import COMMANDS, Command, main, parse, switches, unboxed


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the command that these tests add."""

    image: tyro.conf.Positional[str]
    size: tuple[int, int] = (48, 80)
    fast_mode: bool = False

    def __post_init__(self) -> None:
        if min(self.size) < 1:
            raise ValueError(f"size must be positive, got {self.size}")


Install = Callable[[Callable[[Options], None]], None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Make ``spd echo`` run a function of the test's."""

    def install(run: Callable[[Options], None]) -> None:
        module = ModuleType("spd_echo", doc="Echo.\n\nExample:\n  spd echo x")
        module.__dict__.update(Options=Options, run=run)
        monkeypatch.setitem(sys.modules, "spd_echo", module)
        monkeypatch.setattr(cli, "COMMANDS", {**COMMANDS, "echo": Command("spd_echo", "Echo.")})

    return install


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The only line of standard error; standard output is empty."""
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.endswith("\n")
    assert output.err.count("\n") == 1
    assert output.err.startswith("spd: ")
    return output.err.removeprefix("spd: ").strip()


def test_options_reach_the_command(install: Install) -> None:
    seen: list[Options] = []
    install(seen.append)
    assert main(["echo", "a[b].png", "--size", "3", "5", "--fast_mode", "TRUE"]) == 0
    assert seen == [Options(image="a[b].png", size=(3, 5), fast_mode=True)]


def test_exit_status_of_a_command_that_exits(install: Install) -> None:
    def run(options: Options) -> None:
        raise SystemExit(3)

    install(run)
    assert main(["echo", "x"]) == 3


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "a command is missing"),
        ("ech x", "unknown command 'ech'"),
        ("--ech", "unknown command '--ech'"),
        ("data", "expected rooms, nyu"),
        ("data houses", "unknown command 'houses'; expected rooms, nyu (see spd data --help)"),
        ("echo", "IMAGE"),
        ("echo x y", "unrecognized options: y (see spd echo --help)"),
        ("echo x --sise 3 5", "did you mean --size"),
        ("echo x --size 3", "Expected 2 values"),
        ("echo x --size 3 wide", "wide"),
        ("echo x --size 3 0", "size must be positive, got (3, 0)"),
        ("data rooms x --nmu 3", "Unrecognized options: --nmu"),
    ],
)
def test_usage_error_is_one_line_and_status_2(
    line: str, words: str, install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install(lambda options: pytest.fail("the command must not run"))
    assert main(line.split()) == 2
    message = one_line(capsys)
    assert message.startswith("error: ")
    assert words in message
    assert "--help)" in message


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ValueError("depth must be\npositive, got -1"), 2, "error: depth must be positive, got -1"),
        (FileNotFoundError(2, "No such file or directory", "x.png"), 2, "error: x.png: No such file or directory"),
        (IsADirectoryError(21, "Is a directory", "rooms"), 2, "error: rooms: Is a directory"),
        (PermissionError(13, "Permission denied", "out"), 2, "error: out: Permission denied"),
        (OSError("image file is truncated"), 2, "error: image file is truncated"),
        (CommandFailed("loss is nan at step 7"), 1, "error: loss is nan at step 7"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (
            ModuleNotFoundError("No module named 'onnx'", name="onnx.helper"),
            2,
            "error: onnx.helper is not installed; pip install 'spd-depth[onnx]'",
        ),
    ],
)
def test_error_is_one_line(
    error: BaseException, status: int, message: str, install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(options: Options) -> None:
        raise error

    install(run)
    assert main(["echo", "x"]) == status
    assert one_line(capsys) == message


@pytest.mark.parametrize(
    "bug", [AssertionError("must hold"), KeyError("x"), ModuleNotFoundError("No module named 'q'", name="q")]
)
def test_a_bug_keeps_its_traceback(bug: Exception, install: Install) -> None:
    def run(options: Options) -> None:
        raise bug

    install(run)
    with pytest.raises(type(bug)):
        main(["echo", "x"])


def test_debug_lets_an_error_through(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(options: Options) -> None:
        raise ValueError("no")

    install(run)
    monkeypatch.setenv("SPD_DEBUG", "1")
    with pytest.raises(ValueError, match="no"):
        main(["echo", "x"])


def test_broken_pipe_is_silent() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "spd.cli.main", "--help"]
    # Unbuffered output leaves nothing to flush at exit, which is what goes wrong.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    result = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, env=environment, check=False)
    os.close(writer)
    assert (result.returncode, result.stderr) == (141, b"")


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert f"  {name} " in text
        assert command.summary in text
    assert "SPD_DEBUG=1" in text


def test_help_of_a_group_lists_its_commands_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "--help"]) == 0
    text = capsys.readouterr().out
    assert "data rooms" in text
    assert "predict " not in text.partition("Example:")[0]


def test_help_of_a_command_has_its_docstring(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(lambda options: None)
    assert main(["echo", "-h"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: spd echo ")
    assert "spd echo x" in text
    assert "--fast-mode" in text


def test_a_warning_is_one_line() -> None:
    with one_line_warnings():
        assert warnings.formatwarning("two\nlines", UserWarning, "file.py", 7) == "spd: warning: two lines\n"
    assert "file.py:7: UserWarning" in warnings.formatwarning("plain", UserWarning, "file.py", 7)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    import spd

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"spd {spd.__version__}\n"
    assert spd.__version__[0].isdigit()


def test_only_the_chosen_module_is_imported() -> None:
    code = (
        "import sys\n"
        "from spd.cli.main import parse\n"
        "parse(['data', 'rooms', 'x', '--num', '1'])\n"
        "assert 'spd.cli.data_rooms' in sys.modules\n"
        "assert 'spd.cli.train' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--flip false", "--no-flip"),
        ("--data.flip False --seed 1", "--data.no-flip --seed 1"),
        ("--data.flip=false", "--data.no-flip"),
        ("--data.flip=TRUE", "--data.flip"),
        ("--resume true x.png", "--resume x.png"),
        ("true", "true"),
        ("--name=a true", "--name=a true"),
        ("--splits train false", "--splits train false"),
        ("--a.b.c false --d", "--a.b.no-c --d"),
    ],
)
def test_switches(line: str, expected: str) -> None:
    assert switches(line.split()) == expected.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("x --model bilinear --seed 1", "x --model.architecture bilinear --seed 1"),
        ("x --model=bilinear", "x --model.architecture=bilinear"),
        ("--model.pretrained false --model spd", "--model.no-pretrained --model.architecture spd"),
        ("--models bilinear --name=--model", "--models bilinear --name=--model"),
    ],
)
def test_short_flags(line: str, expected: str) -> None:
    assert switches(line.split(), {"--model": "--model.architecture"}) == expected.split()


@pytest.mark.parametrize(
    "box",
    [
        # As tyro draws it on a terminal, and where there is no UTF-8.
        "\x1b[31m╭─ Value error ─────────╮\x1b[0m\n│ Error parsing --size: │\n│ too few               │\n"
        "│ ───────────────────── │\n│ For full helptext     │\n╰───────────────────────╯\n",
        " Value error \n ----------- \n  Error parsing --size:\n  too few\n  -----------\n  For full helptext\n  \n",
    ],
)
def test_unboxed(box: str) -> None:
    assert unboxed(box) == "--size: too few"


def test_parse_returns_the_run_of_the_command(install: Install) -> None:
    def run(options: Options) -> None: ...

    install(run)
    assert parse(["echo", "x"]) == (run, Options(image="x"))
