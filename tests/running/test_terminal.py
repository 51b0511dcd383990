"""stages.running.terminal: what a stage says, with a terminal and without."""

import sys

import pytest

from stages.running import terminal
from stages.running.terminal import Progress, UserError, run_stage, say


def fail_with(error: BaseException):
    def main() -> None:
        raise error

    return main


def test_a_user_error_is_one_line_and_exit_code_1(capsys):
    with pytest.raises(SystemExit) as end:
        run_stage(fail_with(UserError("`gan.lr` is 2: input should be less than 1")))
    assert end.value.code == 1
    assert capsys.readouterr() == ("", "error: `gan.lr` is 2: input should be less than 1\n")


def test_ctrl_c_is_one_line_and_exit_code_130(capsys):
    with pytest.raises(SystemExit) as end:
        run_stage(fail_with(KeyboardInterrupt()))
    assert end.value.code == 130
    assert capsys.readouterr() == ("", "interrupted\n")


def test_a_defect_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_stage(fail_with(ZeroDivisionError()))


def test_say_indents(capsys):
    say("one", "two")
    assert capsys.readouterr().out == "  one\n  two\n"


def test_progress_without_a_terminal_is_a_plain_line_now_and_then(capsys, monkeypatch):
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with Progress("train gan", total=100, unit="steps") as bar:
        for now in (10.0, 20.0, 29.9, 30.0, 40.0, 60.0):
            bar.note(f"loss {now:.0f}")
            bar.advance(3)
    out, err = capsys.readouterr()
    assert err == ""
    assert out == "  train gan: 12/100 steps, 0/s, loss 30\n  train gan: 18/100 steps, 0/s, loss 60\n"
    assert terminal.SECONDS_BETWEEN_LINES == 30


def test_progress_in_a_terminal_is_a_bar_that_leaves_nothing_behind(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with Progress("decode", total=4, unit="images") as bar:
        bar.note("half")
        bar.advance(2)
        bar.bar.refresh()
    out, err = capsys.readouterr()
    assert out == ""
    assert "2/4" in err
    assert "half" in err
    assert err.split("\r")[-2].strip() == ""


def test_one_of_several_processes_that_do_the_same_says_nothing_but_errors(monkeypatch, capsys):
    monkeypatch.setattr(terminal.verbosity, "silent", False)
    monkeypatch.setattr(terminal, "SECONDS_BETWEEN_LINES", 0)
    for silent in (False, True):
        if silent:
            terminal.silence()
        terminal.say("done")
        with terminal.Progress("train", total=2) as bar:
            bar.advance()
        said = capsys.readouterr()
        assert (said.out == "") is silent
        assert said.err == ""
