"""Verdicts, from the words of real runners."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from graph.comparing import baseline, judge, why_not_run
from graph.outputs import KEPT_NAMES, Reading, tally, words
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
    said = "could not be judged: on the base it needs the Python package yaml; with the change "
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
    reading = words(PYTEST_TWO)
    assert reading.failing == ("tests/test_a.py::test_one", "tests/test_b.py")
    assert (reading.executed, reading.whole) == (1, True)
    framed = "==== 1 failed, 2 passed, 1 warning in 0.03s ====\n"
    assert words(framed).executed == 3
    assert words("ERROR    root:a.py:3 a log line\n1 passed in 0.1s\n").failing == ()


def test_a_real_unittest_run_is_understood(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text(
        "import unittest\n\n\nclass A(unittest.TestCase):\n    def test_x(self):\n        self.fail()\n\n"
        "    def test_y(self):\n        raise ValueError\n\n    def test_z(self):\n        pass\n"
    )
    command = [sys.executable, "-m", "unittest", "discover"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    reading = words(done.stdout + done.stderr)
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
    reading = words(done.stdout)
    assert (reading.executed, reading.failing, reading.whole) == (2, ("test_a.py::test_x",), True)
    (tmp_path / "test_a.py").unlink()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=plain)
    assert base(done.returncode, done.stdout).verdict == "not run"


def reading(passing: str = "", failing: str = "", skipped: str = "") -> Reading:
    cases = [*((n, "passed") for n in passing.split()), *((n, "failed") for n in failing.split())]
    return tally([*cases, *((n, "skipped") for n in skipped.split())])  # type: ignore[list-item]


def before(passing: str = "", failing: str = "") -> CheckResult:
    return baseline(TEST, outcome(1 if failing else 0), reading(passing, failing))


PARTIAL = TEST.model_copy(update={"partial": True})


def test_the_comparison_names_tests() -> None:
    base = before("t::a t::b t::gone", "t::old t::mended")
    assert (base.verdict, base.executed, base.passing) == ("red", 5, ("t::a", "t::b", "t::gone"))
    result = judge(TEST, base, outcome(1), reading("t::a t::mended t::new", "t::old t::b"))
    assert result.verdict == "red"
    assert result.failing == ("t::old", "t::b")
    assert result.old_failures == ("t::old",)
    assert result.newly_passing == ("t::mended",)
    assert result.vanished == ("t::gone",)
    assert result.executed == 5
    assert result.reason == "exit code 1; newly failing: t::b"
    many = reading("", " ".join(f"t::{n}" for n in range(7)))
    assert judge(TEST, base, outcome(1), many).reason.endswith("newly failing: t::0, t::1, t::2, t::3, t::4 and 2 more")


def test_fewer_tests_than_before_are_told_and_stay_green() -> None:
    base = before("t::a t::b t::c")
    result = judge(TEST, base, outcome(0), reading("t::a", skipped="t::c"))
    assert (result.verdict, result.vanished) == ("green", ("t::b", "t::c"))
    assert result.reason == "1 test ran, 3 on the base; gone: t::b; skipped now: t::c"
    old = judge(TEST, before("t::a t::b", "t::x"), outcome(1), reading("t::a", "t::x"))
    assert old.reason == "no new failures; what fails failed before; 2 tests ran, 3 on the base; gone: t::b"
    # The controls: as many, and more.
    assert judge(TEST, base, outcome(0), reading("t::a t::b t::c")).reason == ""
    renamed = judge(TEST, base, outcome(0), reading("t::a t::b t::d t::e"))
    assert (renamed.reason, renamed.vanished) == ("", ("t::c",))


def test_a_suite_of_which_no_test_is_left_is_red() -> None:
    for left in (reading(), reading(skipped="t::a t::b")):
        result = judge(TEST, before("t::a t::b"), outcome(0), left)
        assert (result.verdict, result.vanished) == ("red", ("t::a", "t::b"))
        assert result.reason == "not one test is executed any more; on the base some were"


def test_tests_of_a_file_that_cannot_be_loaded_are_not_told_as_gone() -> None:
    base = before("a.py::x b.py::y b.py::z")
    partly = tally([("a.py::x", "passed"), ("b.py", "unloaded")])
    assert judge(TEST, base, outcome(1), partly).vanished == ()
    assert judge(TEST, base, outcome(1), tally([("b.py", "unloaded")])).vanished == ()
    assert judge(TEST, base, outcome(1), tally([("a.py::x", "failed"), ("b.py::y", "passed")])).vanished == ("b.py::z",)
    mended = judge(TEST, baseline(TEST, outcome(1), partly), outcome(0), reading("a.py::x b.py::y b.py::z"))
    assert (mended.verdict, mended.vanished) == ("green", ())


def test_where_names_are_not_known_none_is_missed_and_numbers_still_count() -> None:
    base = baseline(TEST, outcome(0, "20 passed in 0.1s\n"))
    result = judge(TEST, base, outcome(0, "18 passed in 0.1s\n"))
    assert (result.verdict, result.vanished, result.reason) == ("green", (), "18 tests ran, 20 on the base")
    named = judge(TEST, before("t::a t::b"), outcome(0, "1 passed in 0.1s\n"))
    assert (named.vanished, named.reason) == ((), "1 test ran, 2 on the base")


def test_too_many_passing_names_are_not_kept() -> None:
    many = tally([(f"t::{n}", "passed") for n in range(KEPT_NAMES + 1)] + [("t::old", "failed")])
    base = baseline(TEST, outcome(1), many)
    assert (base.passing, base.executed) == ((), KEPT_NAMES + 2)
    result = judge(TEST, base, outcome(0), tally([("t::old", "passed")]))
    assert (result.vanished, result.newly_passing) == ((), ("t::old",))
    assert result.reason == f"1 test ran, {KEPT_NAMES + 2} on the base"


def test_of_a_partial_run_no_test_is_missed() -> None:
    base = before("t::a t::b", "t::old t::other")
    result = judge(PARTIAL, base, outcome(0), reading("t::a"))
    assert (result.verdict, result.reason, result.vanished) == ("green", "", ())
    old = judge(PARTIAL, base, outcome(1), reading("t::a", "t::old"))
    assert (old.verdict, old.old_failures, old.vanished) == ("green", ("t::old",), ())
    assert judge(PARTIAL, base, outcome(1), reading("t::a", "t::new")).verdict == "red"
    assert judge(PARTIAL, base, outcome(3), reading("t::a", "t::old")).verdict == "red"
    # The control: the whole suite with so few tests says so.
    assert judge(TEST, base, outcome(0), reading("t::a")).vanished == ("t::b", "t::old", "t::other")


@pytest.mark.parametrize(("exit_code", "output"), EMPTY.values(), ids=EMPTY.keys())
def test_a_partial_run_that_finds_no_test_is_not_run_whatever_the_base_was(exit_code: int, output: str) -> None:
    for first in (None, before("t::a"), before("t::a", "t::b"), base(127), base(5, "no tests ran in 0.01s")):
        result = judge(PARTIAL, first, outcome(exit_code, output))
        assert (result.verdict, result.reason) == ("not run", "not one test was executed")


def test_a_partial_run_whose_tests_cannot_be_loaded_is_red_unless_they_could_not_before() -> None:
    broken = tally([("tests/test_b.py", "unloaded")])
    assert judge(PARTIAL, before("t::a"), outcome(2), broken).verdict == "red"
    was = baseline(TEST, outcome(1), tally([("t::a", "failed"), ("tests/test_b.py", "unloaded")]))
    known = judge(PARTIAL, was, outcome(2), broken)
    assert (known.verdict, known.old_failures) == ("green", ("tests/test_b.py",))


NEEDS = {
    "pnpm": (1, "", "sh: 1: vitest: not found\n ELIFECYCLE  Test failed.\n", "the program vitest"),
    "npm": (127, "", "> vitest run\n\nsh: 1: vitest: not found\n", "the program vitest"),
    "bash": (127, "", "bash: line 1: go: command not found\n", "the program go"),
    "make": (
        2, "", "make: cargo: No such file or directory\nmake: *** [Makefile:2: test] Error 127\n",
        "the program cargo",
    ),
    "module": (1, "", "/usr/bin/python3: No module named pytest\n", "the Python package pytest"),
    "import": (
        2, "", "E   ModuleNotFoundError: No module named 'redis'\n1 error in 0.1s\n",
        "the Python package redis",
    ),
    "vitest": (
        1, "vitest", "Error: Cannot find package '@vue/test-utils' imported from /a\n",
        "the npm package @vue/test-utils",
    ),
    "node": (1, "node", "Error: Cannot find module 'left-pad'\n# pass 0\n# fail 0\n", "the npm package left-pad"),
    "go": (
        1, "go", "a.go:4:2: no required module provides package example.com/x/y; to add it:\n",
        "the Go package example.com/x/y",
    ),
    "cargo": (101, "cargo", "error: no matching package named `serde` found\n", "the crate serde"),
    "download": (101, "cargo", "error: failed to download `libc v0.2.1`\n", "the crate libc"),
    "postgres": (
        1, "pytest",
        'E   connection to server at "127.0.0.1", port 5432 failed: Connection refused\n3 errors in 0.1s\n',
        "PostgreSQL on port 5432",
    ),
    "redis": (
        1, "pytest",
        "Error 111 connecting to localhost:6379. Connection refused.\n2 failed in 1s\n",
        "Redis on port 6379",
    ),
    "mysql": (
        1, "jest", "Error: connect ECONNREFUSED 127.0.0.1:3306\nTests:  4 failed, 4 total\n",
        "MySQL on port 3306",
    ),
    "own": (
        1, "go", "dial tcp [::1]:8123: connect: connection refused\nFAIL\tp [build failed]\n",
        "a service on port 8123",
    ),
    "driver": (1, "pytest", "asyncpg\nE ConnectionRefusedError: Connection refused\n1 error in 1s\n", "PostgreSQL"),
    "docker": (1, "pytest", "Cannot connect to the Docker daemon at unix:///x\n1 error in 1s\n", "Docker"),
    "network": (1, "pytest", "E socket.gaierror: Temporary failure in name resolution\n1 error in 1s\n", "the network"),
}  # fmt: skip


@pytest.mark.parametrize(("exit_code", "runner", "output", "needed"), NEEDS.values(), ids=NEEDS.keys())
def test_what_a_base_needs_and_has_not_is_named(exit_code: int, runner: str, output: str, needed: str) -> None:
    command = TEST.model_copy(update={"runner": runner})
    result = baseline(command, outcome(exit_code, output))
    assert (result.verdict, result.reason) == ("not run", f"needs {needed}")
    # The control: where something passes, these are old failures.
    some = baseline(command, outcome(1, output), reading("t::a t::b", "t::c"))
    if exit_code == 1:
        assert some.verdict == "red"
    # What ran on the base and needs this with the change is red, and says what.
    changed = judge(command, before("t::a"), outcome(exit_code, output))
    assert changed.verdict == "red"


def test_a_tests_own_server_is_no_service() -> None:
    said = "E  ConnectionRefusedError: connect ECONNREFUSED 127.0.0.1:45123\n1 failed in 0.1s\n"
    assert base(1, said).verdict == "red"


def test_words_in_the_middle_of_an_unknown_runners_output_do_not_excuse_it() -> None:
    script = Command(kind="test", command="bash run-tests.sh", found_in="run-tests.sh")
    said = "ModuleNotFoundError: No module named 'yaml'\n"
    assert baseline(script, outcome(1, said)).verdict == "not run"
    assert baseline(script, outcome(1, said + "more\n" * 1000)).verdict == "red"


@pytest.mark.parametrize(
    ("exit_code", "output"),
    [(137, ""), (2, "make: *** [Makefile:2: test] Error 137\n"), (134, "FATAL ERROR: JavaScript heap out of memory\n")],
)
def test_what_was_killed_for_want_of_memory_is_not_run(exit_code: int, output: str) -> None:
    result = base(exit_code, output)
    assert (result.verdict, result.reason) == ("not run", "it ran out of memory")


def test_a_missing_package_with_the_change_is_red_and_named() -> None:
    said = "ERROR a.py\nE   ModuleNotFoundError: No module named 'httpx'\n1 error in 0.1s\n"
    result = judge(TEST, before("t::a"), outcome(2, said))
    reason = "exit code 2: needs the Python package httpx; on the base it ran to its end; newly failing: a.py"
    assert (result.verdict, result.reason) == ("red", reason)
