"""Verdicts, from the words of real runners."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from graph.comparing import baseline, judge, read, why_not_run
from graph.state import CheckResult, Command, Outcome

TEST = Command(kind="test", command="python3 -m pytest -q", found_in="pyproject.toml")
LINT = Command(kind="check", command="make lint", found_in="Makefile")

PYTEST_TWO = (
    "FAILED tests/test_a.py::test_one - assert 1 == 2\nERROR tests/test_b.py - boom\n1 failed, 1 error in 0.10s\n"
)
PYTEST_ONE = "FAILED tests/test_a.py::test_one - assert 1 == 2\n1 failed, 3 passed in 0.10s\n"
PYTEST_NEW = "FAILED tests/test_a.py::test_two - assert 1 == 2\n1 failed, 3 passed in 0.10s\n"
PYTEST_BOTH = "FAILED tests/test_a.py::test_one\nFAILED tests/test_a.py::test_two\n2 failed, 2 passed in 0.10s\n"
PYTEST_GREEN = "....  [100%]\n4 passed in 0.10s\n"


def outcome(exit_code: int | None, output: str = "", ended: str = "exit", dropped: int = 0) -> Outcome:
    return Outcome.model_validate(
        {"command": "x", "exit": exit_code, "seconds": 1.0, "output": output, "ended": ended, "dropped": dropped}
    )


def base(exit_code: int | None, output: str = "", ended: str = "exit") -> CheckResult:
    return baseline(TEST, outcome(exit_code, output, ended))


@pytest.mark.parametrize(
    ("exit_code", "output", "ended"),
    [
        (127, "sh: 1: pytest: not found", "exit"),
        (126, "permission denied", "exit"),
        (1, "/usr/bin/python3: No module named pytest\n", "exit"),
        (2, "make: python9: No such file or directory\nmake: *** [Makefile:2: test] Error 127\n", "exit"),
        (2, "ERROR tests/test_a.py\nE   ModuleNotFoundError: No module named 'yaml'\n1 error in 0.05s\n", "exit"),
        (1, "ERROR: setUpModule (test_a)\n----\nRan 0 tests in 0.001s\n\nFAILED (errors=1)\n", "exit"),
        (2, "1 error in 0.05s\n", "exit"),
        (None, "", "timeout"),
        (None, "", "memory"),
        (None, "", "disk"),
        (None, "", "output"),
    ],
)
def test_what_cannot_run_on_the_base_is_not_run_whatever_the_change_does_to_it(
    exit_code: int | None, output: str, ended: str
) -> None:
    before = base(exit_code, output, ended)
    assert before.verdict == "not run"
    assert before.reason
    for after in (outcome(1, PYTEST_ONE), outcome(None, ended="timeout"), outcome(exit_code, output, ended)):
        assert judge(TEST, before, after).verdict == "not run"
    assert judge(TEST, before, outcome(0, PYTEST_GREEN)).verdict == "green"


EMPTY = {
    "pytest": (5, "no tests ran in 0.01s\n"),
    "pytest in make": (2, "no tests ran in 0.01s\nmake: *** [Makefile:2: test] Error 5\n"),
    "pytest, all left out": (5, "3 deselected in 0.01s\n"),
    "unittest": (0, "\n----\nRan 0 tests in 0.000s\n\nOK\n"),
    "newer unittest": (5, "\n----\nRan 0 tests in 0.000s\n\nNO TESTS RAN\n"),
    "cargo": (0, "running 0 tests\n\ntest result: ok. 0 passed\n"),
    "go": (0, "?   \texample.com/a\t[no test files]\n"),
    "a quiet one": (5, ""),
}


@pytest.mark.parametrize(("exit_code", "output"), EMPTY.values(), ids=EMPTY.keys())
def test_where_the_base_has_no_tests_those_of_the_change_stand_for_themselves(exit_code: int, output: str) -> None:
    before = base(exit_code, output)
    assert (before.verdict, before.reason) == ("not run", "not one test was executed")
    after = judge(TEST, before, outcome(1, PYTEST_ONE))
    assert (after.verdict, after.reason, after.failing) == ("red", "exit code 1", ("tests/test_a.py::test_one",))
    assert judge(TEST, before, outcome(0, PYTEST_GREEN)).verdict == "green"
    assert judge(TEST, before, outcome(exit_code, output)) == before
    late = judge(TEST, before, outcome(None, ended="timeout"))
    assert (late.verdict, late.reason) == ("not run", "it did not end within the time limit")


def test_what_cannot_be_judged_is_told_as_it_ended_with_the_change() -> None:
    unloadable = "ERROR tests/test_a.py\nE   ModuleNotFoundError: No module named 'yaml'\n1 error in 0.05s\n"
    said = "could not be judged: on the base not one test was executed (no module yaml); with the change "
    assert judge(TEST, base(2, unloadable), outcome(1, PYTEST_ONE)).reason == f"{said}1 test fails, exit code 1"
    assert judge(TEST, base(2, unloadable), outcome(1, PYTEST_BOTH)).reason == f"{said}2 tests fail, exit code 1"
    assert judge(TEST, base(2, unloadable), outcome(3, "?")).reason == f"{said}exit code 3"
    assert judge(TEST, base(2, unloadable), outcome(127)).reason == f"{said}a program that it needs is missing here"
    same = judge(TEST, base(127), outcome(127))
    assert same.reason == "a program that it needs is missing here"


def test_the_missing_package_is_named() -> None:
    assert "pytest" in why_not_run(TEST, outcome(1, "/v/bin/python3.11: No module named pytest\n"))
    said = "E   ModuleNotFoundError: No module named 'yaml'\n1 error in 0.05s\n"
    assert "yaml" in why_not_run(TEST, outcome(2, said))


def test_tests_that_print_such_words_and_ran_are_not_taken_for_a_missing_runner() -> None:
    """The control: the words alone do not make it "not run"."""
    printed = "bash: frobnicate: command not found\nsaid: python3: No module named pytest\n" + PYTEST_ONE
    assert base(1, printed).verdict == "red"
    assert baseline(LINT, outcome(1, "no tests found")).verdict == "red"


def test_green_with_the_change_is_green_whatever_the_base_was() -> None:
    for before in (base(0, PYTEST_GREEN), base(1, PYTEST_ONE), base(127), None):
        assert judge(TEST, before, outcome(0, PYTEST_GREEN)).verdict == "green"


@pytest.mark.parametrize(
    ("exit_code", "output", "ended"),
    [
        (1, PYTEST_ONE, "exit"),
        (127, "not found", "exit"),
        (5, "no tests ran in 0.01s", "exit"),
        (0, "Ran 0 tests in 0.000s", "exit"),
        (None, "", "timeout"),
        (None, "", "memory"),
    ],
)
def test_what_ran_to_its_end_on_the_base_and_does_not_with_the_change_is_red(
    exit_code: int | None, output: str, ended: str
) -> None:
    for before in (base(0, PYTEST_GREEN), base(1, PYTEST_NEW)):
        result = judge(TEST, before, outcome(exit_code, output, ended))
        assert result.verdict == "red"
        assert result.reason


def test_old_failures_alone_are_green_and_listed() -> None:
    result = judge(TEST, base(1, PYTEST_BOTH), outcome(1, PYTEST_ONE))
    assert (result.verdict, result.old_failures) == ("green", ("tests/test_a.py::test_one",))
    assert "no new failures" in result.reason


def test_a_new_failure_cannot_hide_behind_an_old_one() -> None:
    result = judge(TEST, base(1, PYTEST_ONE), outcome(1, PYTEST_BOTH))
    assert result.verdict == "red"
    assert result.old_failures == ("tests/test_a.py::test_one",)
    assert "tests/test_a.py::test_two" in result.reason


def test_a_run_that_names_fewer_failures_than_it_counts_is_not_trusted() -> None:
    cut = "FAILED tests/test_a.py::test_one\n3 failed, 2 passed in 0.10s\n"
    assert judge(TEST, base(1, PYTEST_BOTH), outcome(1, cut)).verdict == "red"
    assert judge(TEST, base(1, PYTEST_BOTH), outcome(3, PYTEST_ONE)).verdict == "red"


def test_red_without_names_on_both_sides_is_red_and_says_why() -> None:
    result = judge(LINT, baseline(LINT, outcome(1, "bad")), outcome(1, "bad"))
    assert (result.verdict, result.reason) == ("red", "was red before too; this runner's output does not name tests")


def test_a_command_that_the_base_did_not_have_stands_for_itself() -> None:
    assert judge(TEST, None, outcome(1, PYTEST_ONE)).verdict == "red"
    assert judge(TEST, None, outcome(127)).verdict == "not run"


def test_words_of_pytest_are_understood() -> None:
    reading = read(PYTEST_TWO)
    assert reading.failing == ("tests/test_a.py::test_one", "tests/test_b.py")
    assert (reading.executed, reading.whole) == (1, True)
    framed = "==== 1 failed, 2 passed, 1 warning in 0.03s ====\n"
    assert read(framed).executed == 3
    assert read("ERROR    root:a.py:3 a log line\n1 passed in 0.1s\n").failing == ()


def test_a_real_unittest_run_is_understood(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text(
        "import unittest\n\n\nclass A(unittest.TestCase):\n    def test_x(self):\n        self.fail()\n\n"
        "    def test_y(self):\n        raise ValueError\n\n    def test_z(self):\n        pass\n"
    )
    command = [sys.executable, "-m", "unittest", "discover"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    reading = read(done.stdout + done.stderr)
    assert (reading.executed, reading.whole, len(reading.failing)) == (3, True, 2)
    assert {name.split()[0] for name in reading.failing} == {"test_x", "test_y"}
    (tmp_path / "test_a.py").write_text("import no_such_package\n")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert base(done.returncode, done.stdout + done.stderr).verdict == "not run"


def test_a_real_pytest_run_is_understood(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text("def test_x():\n    assert 'a - b' == 'c'\n\n\ndef test_y():\n    pass\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    plain = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=plain)
    reading = read(done.stdout)
    assert (reading.executed, reading.failing, reading.whole) == (2, ("test_a.py::test_x",), True)
    (tmp_path / "test_a.py").unlink()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=plain)
    assert base(done.returncode, done.stdout).verdict == "not run"
