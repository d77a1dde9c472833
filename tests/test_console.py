from __future__ import annotations

import argparse
import errno
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sr_deploy import __version__
from sr_deploy.console import missing_package, one_line, run, table
from sr_deploy.errors import CheckError, EngineError, InputError, MachineError, SrDeployError
from sr_deploy.files import replacing
from sr_deploy.notes import LINES, NOTES, printed_notes
from sr_deploy.options import Parser, positive_float, positive_int, thread_count, worker_count
from sr_deploy.progress import Step, bars, progress, progress_to

ROWS = [["method", "x2", "x10"], ["bicubic", "33.66", "1"], ["vdsr", "7.5", "22.95"]]


def raising(error: BaseException) -> Callable[[], int]:
    def command() -> int:
        raise error

    return command


def parser() -> Parser:
    p = Parser("sr-x", "Do x.")
    p.add_argument("--number", type=positive_int)
    return p


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--number", "0"], "sr-x: argument --number: 0 is not at least 1; see sr-x --help\n"),
        (["--bad"], "sr-x: unrecognized arguments: --bad; see sr-x --help\n"),
        (["--num", "3"], "sr-x: unrecognized arguments: --num 3; did you mean --number? see sr-x --help\n"),  # no abbreviations
    ],
)
def test_a_mistake_is_one_line_and_exit_2(argv: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(argv)
    assert ended.value.code == 2
    assert capsys.readouterr() == ("", expected)


def test_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"sr-x {__version__}\n"


def test_positive_numbers_are_read() -> None:
    assert (positive_int("3"), positive_float("1e-3")) == (3, 0.001)


@pytest.mark.parametrize("text", ["0", "-1"])
def test_positive_int_refuses(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"{text} is not at least 1"):
        positive_int(text)


@pytest.mark.parametrize("text", ["0", "-0.5", "nan", "inf"])
def test_positive_float_refuses(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"{text} is not above 0"):
        positive_float(text)


def test_run_returns_the_commands_code() -> None:
    assert [run("sr-x", lambda: code) for code in (0, 1)] == [0, 1]  # noqa: B023  # called at once


@pytest.mark.parametrize(
    ("error", "code"),
    [(CheckError, 1), (InputError, 2), (MachineError, 3), (EngineError, 3), (SrDeployError, 3)],
)
def test_an_expected_failure_is_one_line(error: type[SrDeployError], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("sr-x", raising(error("a.png: no such file; check the name"))) == code
    assert capsys.readouterr() == ("", "sr-x: a.png: no such file; check the name\n")


def test_interruption_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("sr-x", raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "sr-x: interrupted\n"


def test_full_memory_is_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("sr-x", raising(MemoryError())) == 3
    assert "out of memory; use a smaller picture" in capsys.readouterr().err


def test_a_defect_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run("sr-x", raising(ZeroDivisionError()))


def test_a_reader_that_leaves_ends_as_by_sigpipe() -> None:
    script = (
        "import sys; from sr_deploy.console import run\n"
        "def command():\n"
        "    for _ in range(100_000): print('x' * 80)\n"
        "    return 0\n"
        "sys.exit(run('sr-x', command))"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 141


def test_a_missing_onnxruntime_names_both_extras_that_bring_it() -> None:
    both = r"pip install 'sr-deploy\[cpu\]', or 'sr-deploy\[cuda\]'"
    with pytest.raises(MachineError, match=rf"^package onnxruntime is not installed; {both}"), missing_package("export"):
        raise ModuleNotFoundError(name="onnxruntime")


def test_missing_package_names_the_extra() -> None:
    with (
        pytest.raises(MachineError, match=r"^package sr_absent is not installed; pip install 'sr-deploy\[train\]'$"),
        missing_package("train"),
    ):
        __import__("sr_absent")


def test_missing_package_hides_no_other_error() -> None:
    with pytest.raises(ImportError, match="cannot import"), missing_package("train"):
        exec("from sr_deploy.console import no_such_name")


def test_table_is_aligned() -> None:
    assert table(ROWS).splitlines() == [
        "method      x2    x10",
        "-------  -----  -----",
        "bicubic  33.66      1",
        "vdsr       7.5  22.95",
    ]


def test_markdown_table_is_aligned() -> None:
    assert table(ROWS, markdown=True).splitlines() == [
        "| method  |    x2 |   x10 |",
        "| ------- | ----: | ----: |",
        "| bicubic | 33.66 |     1 |",
        "| vdsr    |   7.5 | 22.95 |",
    ]


def test_progress_is_silent_where_there_is_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with bars(), progress("work", 2) as advance:
        advance("a")
        advance(by=1)
    assert capfd.readouterr() == ("", "")


def test_progress_goes_to_a_callback() -> None:
    steps: list[Step] = []
    with progress_to(steps.append), progress("work", 3) as advance:
        advance("a")
        advance(by=2)
    with progress("after it", 1) as advance:
        advance()
    assert steps == [Step("a", 1, 3), Step("work", 3, 3)]


def test_notes_are_printed_by_commands_only(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    NOTES.warning("a.png: left out")
    with printed_notes("sr-x"):
        NOTES.warning("b.png: left out")
        NOTES.info("c.png: grown")
        LINES.info("o.onnx: written")
    NOTES.info("d.png: grown")
    LINES.info("p.onnx: written")
    assert capfd.readouterr() == ("o.onnx: written\n", "sr-x: warning: b.png: left out\nc.png: grown\n")
    assert [message[0] for message in caplog.messages] == ["a", "b", "c", "o", "d", "p"]


def test_progress_shows_a_bar_on_a_terminal() -> None:
    script = "from sr_deploy.progress import bars, progress\n"
    script += "with bars(), progress('work', 2) as advance:\n    advance('tile 1'); advance()\n"
    ours, theirs = os.openpty()
    done = subprocess.run([sys.executable, "-c", script], stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, check=False)
    shown = os.read(ours, 65536)
    os.close(ours)
    os.close(theirs)
    assert done.returncode == 0
    assert b"work" in shown
    assert b"2/2" in shown
    assert done.stdout == b""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    ],
)
def test_no_memory_left_is_one_line(capsys: pytest.CaptureFixture[str], error: Exception) -> None:
    def command() -> int:
        raise error

    assert run("sr-x", command) == 3
    assert capsys.readouterr().err == "sr-x: out of memory; use a smaller picture, batch, tile or network\n"


def test_another_runtime_error_is_a_defect_and_keeps_its_traceback() -> None:
    def command() -> int:
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        run("sr-x", command)


@pytest.mark.parametrize(
    ("kind", "text"), [(thread_count, "0"), (thread_count, "257"), (worker_count, "-1"), (worker_count, "999")]
)
def test_counts_of_threads_are_bounded(kind: Callable[[str], int], text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"is not at least|is more than 256"):
        kind(text)
    assert kind("256") == 256


def test_a_request_to_end_is_orderly(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def command() -> int:
        with replacing(tmp_path / "half"):
            signal.raise_signal(signal.SIGTERM)
        return 0

    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a supervisor may have started us with it ignored
    before = signal.getsignal(signal.SIGTERM)
    assert run("sr-x", command) == 128 + signal.SIGTERM
    assert capsys.readouterr().err == "sr-x: terminated\n"
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(("name", "code"), [("stdout", 0), ("stderr", 0)])
def test_a_closed_stream_is_no_failure(monkeypatch: pytest.MonkeyPatch, name: str, code: int) -> None:
    monkeypatch.setattr(sys, name, None)

    def command() -> int:
        print("out")
        print("err", file=sys.stderr)
        return code

    assert run("sr-x", command) == code
    assert getattr(sys, name) is None


class Full(io.StringIO):
    """A stream on a full disk."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_standard_error_keeps_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def command() -> int:
        raise CheckError("no")

    monkeypatch.setattr(sys, "stderr", Full())
    assert run("sr-x", command) == 1


def test_a_name_with_a_line_break_stays_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        raise InputError("a\nb.png: missing")

    assert run("sr-x", command) == 2
    assert capsys.readouterr().err == "sr-x: a\\nb.png: missing\n"


def test_a_wrong_name_is_the_callers_mistake_and_a_full_disk_the_machines() -> None:
    def command(number: int) -> int:
        raise OSError(number, "reason", "name")

    assert run("sr-x", lambda: command(errno.ENAMETOOLONG)) == 2
    assert run("sr-x", lambda: command(errno.ENOSPC)) == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("swallowed", [True, False])
def test_a_signal_that_a_library_turned_into_its_own_error_is_still_a_signal(
    capsys: pytest.CaptureFixture[str], number: signal.Signals, swallowed: bool
) -> None:
    def command() -> int:
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt as err:
            if not swallowed:
                raise ImportError("initialization failed") from err
        return 0

    assert run("sr-x", command) == 128 + number
    said = "interrupted" if number == signal.SIGINT else "terminated"
    assert capsys.readouterr().err == f"sr-x: {said}\n"
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler


def test_control_characters_of_a_name_are_escaped() -> None:
    assert one_line("a\x1b[31mb\nc\td é\u202e") == "a\\x1b[31mb\\nc\td é\\u202e"
