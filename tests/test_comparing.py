"""Verdicts, from the words of real runners."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from graph.comparing import baseline, judge, why_not_run
from graph.outputs import KEPT_NAMES, Reading, tally, words
from graph.state import CheckResult, Command, Outcome
from graph.verdicts import fewer_tests

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
    assert (late.verdict, late.reason) == ("red", "it did not end within the time limit")


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


MAKE = TEST.model_copy(update={"command": "make test"})
CARGO = TEST.model_copy(update={"command": "cargo test", "runner": "cargo"})
GO_TEST = TEST.model_copy(update={"command": "go test ./...", "runner": "go"})
TEN = "10 passed in 0.1s\n"
CARGO_TWO = "running 2 tests\ntest a ... ok\ntest b ... ok\n\ntest result: ok. 2 passed; 0 failed; 0 ignored\n"
SYNTAX = "ERROR tests/test_a.py\n!!! Interrupted: 1 error during collection !!!\n1 error in 0.1s\n"


def test_a_change_after_which_the_suite_says_nothing_of_tests_is_red() -> None:
    for command in (MAKE, TEST.model_copy(update={"runner": "pytest"})):
        result = judge(command, baseline(command, outcome(0, TEN)), outcome(0, ""))
        assert (result.verdict, result.reason) == ("red", "it no longer says that any test ran; on the base 10 did")
    # The controls: what never said so, a part of the suite, and go, which does not count without being asked.
    assert judge(MAKE, baseline(MAKE, outcome(0, "")), outcome(0, "")).verdict == "green"
    assert judge(PARTIAL, base(0, TEN), outcome(0, "")).verdict == "green"
    counted = baseline(GO_TEST, outcome(0), reading("a.TestOne"))
    assert judge(GO_TEST, counted, outcome(0, "ok  \texample.com/a\t0.1s\n")).verdict == "green"


@pytest.mark.parametrize(
    ("command", "after"),
    [
        (TEST, outcome(2, SYNTAX)),
        (TEST, outcome(2, f"E   ModuleNotFoundError: No module named 'clac'\n{SYNTAX}")),
        (TEST, outcome(None, ended="timeout")),
        (TEST, outcome(None, ended="memory")),
        (TEST, outcome(137)),
        (TEST, outcome(4, "no tests ran in 0.01s\nERROR: file or directory not found: tests\n")),
        (GO_TEST, outcome(1, "FAIL\tx/y [build failed]\n")),
    ],
    ids=["syntax", "import", "hang", "memory", "killed", "wrong path", "go build"],
)
def test_new_tests_that_cannot_be_loaded_or_do_not_end_are_red(command: Command, after: Outcome) -> None:
    for first in (None, baseline(command, outcome(0, "no tests ran in 0.01s\n"))):
        result = judge(command, first, after)
        assert (result.verdict, bool(result.reason)) == ("red", True)


def test_new_tests_are_not_run_where_the_runner_a_service_or_every_package_is_missing() -> None:
    assert judge(TEST, None, outcome(1, "/usr/bin/python3: No module named pytest\n")).verdict == "not run"
    refused = judge(
        TEST, None, outcome(1, "Error 111 connecting to localhost:6379. Connection refused.\n2 failed in 1s\n")
    )
    assert (refused.verdict, refused.reason) == ("not run", "needs Redis on port 6379")
    unknown = outcome(2, f"E   ModuleNotFoundError: No module named 'yaml'\n{SYNTAX}")
    bare = judge(TEST, None, unknown, bare=True)
    assert (bare.verdict, bare.reason) == ("not run", "needs the Python package yaml")
    assert judge(TEST, None, outcome(2, SYNTAX), bare=True).verdict == "red"


def test_a_cargo_test_binary_that_ends_before_its_tests_is_red() -> None:
    cut = "running 2 tests\ntest a ... ok\n"
    assert words(cut, "cargo").executed == 1
    for first in (baseline(CARGO, outcome(0, CARGO_TWO)), None):
        result = judge(CARGO, first, outcome(0, cut))
        assert (result.verdict, result.reason) == ("red", "a test binary ended before its tests")
    assert baseline(CARGO, outcome(101, "running 2 tests\n")).verdict == "red"


def test_old_failing_tests_excuse_nothing_but_themselves() -> None:
    old = "FAILED t.py::a - x\n1 failed, 9 passed in 1s\n"
    make = f"{old}make: *** [Makefile:2: test] Error 1\n"
    assert judge(MAKE, baseline(MAKE, outcome(2, make)), outcome(2, make)).verdict == "green"
    folder = TEST.model_copy(update={"command": "cd api && pytest -q"})
    assert judge(folder, baseline(folder, outcome(1, old)), outcome(1, old)).verdict == "green"
    for line, said in (
        ("make test", f"{old}e2e: 3 scenarios broken\nmake: *** [Makefile:2: test] Error 1\n"),
        ("make -k test", make),
        ("make test", f"make: *** [Makefile:2: a] Error 1\n{make}"),
        ("pytest a; pytest b", old),
        ("make test", f"9 passed in 1s\n{old}"),
        ("tox", f"{old}  py: FAIL code 1 (1.0 seconds)\n  lint: FAIL code 1 (1.0 seconds)\n"),
    ):
        command = TEST.model_copy(update={"command": line})
        result = judge(command, baseline(command, outcome(1, old)), outcome(1, said))
        assert result.verdict == "red", line
        if "9 passed in 1s\nFAILED" not in said:
            assert "could not tell new failures from old ones" in result.reason
    lint = judge(LINT, baseline(LINT, outcome(1, old)), outcome(1, f"{old}new: 55 errors\n"))
    assert lint.verdict == "red"


@pytest.mark.parametrize(
    "said",
    [
        "FAIL Required test coverage of 90% not reached. Total coverage: 50.00%\n",
        "ERROR: Coverage failure: total of 50 is less than fail-under=90\n",
    ],
)
def test_coverage_that_is_newly_too_low_is_red_beside_old_failing_tests(said: str) -> None:
    plain = TEST.model_copy(update={"runner": "pytest"})
    result = judge(plain, baseline(plain, outcome(1, PYTEST_ONE)), outcome(1, said + PYTEST_ONE))
    assert (result.verdict, result.reason.endswith("the coverage is too low")) == ("red", True)
    assert (
        judge(plain, baseline(plain, outcome(1, said + PYTEST_ONE)), outcome(1, said + PYTEST_ONE)).verdict == "green"
    )


GO_OLD = "--- FAIL: TestA (0.0s)\nFAIL\tx/a\t0.1s\n"
CARGO_STOPPED = (
    "running 1 test\ntest a ... FAILED\n\ntest result: FAILED. 0 passed; 1 failed; 0 ignored\n\n"
    "error: test failed, to rerun pass `--lib`\n"
)
UNITTEST_OLD = "FAIL: test_a (t.T.test_a)\n----\nRan 2 tests in 0.0s\n\nFAILED (failures=1)\n"


@pytest.mark.parametrize(
    ("line", "runner", "said"),
    [
        ("pytest -x", "pytest", PYTEST_ONE),
        ("pytest -q --maxfail=2", "pytest", PYTEST_ONE),
        ("make test", "", f"python3 -m pytest -qx\n{PYTEST_ONE}"),
        ("pytest", "pytest", f"!!!!!! stopping after 1 failures !!!!!!\n{PYTEST_ONE}"),
        ("python3 -m unittest -f", "unittest", UNITTEST_OLD),
        ("go test -failfast ./...", "go", GO_OLD),
        ("make test", "", CARGO_STOPPED),
    ],
)
def test_a_run_that_stops_at_an_old_failure_says_nothing_of_new_ones(line: str, runner: str, said: str) -> None:
    command = TEST.model_copy(update={"command": line, "runner": runner})
    result = judge(command, baseline(command, outcome(1, said)), outcome(1, said))
    assert (result.verdict, "it stops at its first failures" in result.reason) == ("red", True)


@pytest.mark.parametrize(
    ("line", "runner", "said"),
    [
        ("pytest -rx --maxfail=0", "pytest", PYTEST_ONE),
        ("python3 -m unittest -v", "unittest", UNITTEST_OLD),
        ("go test ./...", "go", GO_OLD),
        ("make test", "", UNITTEST_OLD + "a test printed this\nmake: *** [Makefile:2: test] Error 1\n"),
    ],
)
def test_a_run_that_goes_on_to_its_end_has_only_old_failures(line: str, runner: str, said: str) -> None:
    command = TEST.model_copy(update={"command": line, "runner": runner})
    assert judge(command, baseline(command, outcome(1, said)), outcome(1, said)).verdict == "green"


def test_exit_code_0_is_not_believed_when_new_failing_tests_are_named() -> None:
    piped = TEST.model_copy(update={"command": "pytest -q | tee log"})
    result = judge(piped, baseline(piped, outcome(0, TEN)), outcome(0, PYTEST_ONE))
    said = "exit code 0, but its report names failing tests: tests/test_a.py::test_one"
    assert (result.verdict, result.reason) == ("red", said)
    assert judge(piped, None, outcome(0, PYTEST_ONE)).verdict == "red"
    # The controls: what failed on the base too, and words of a log.
    assert judge(piped, baseline(piped, outcome(0, PYTEST_ONE)), outcome(0, PYTEST_ONE)).verdict == "green"
    log = "ERROR: could not connect, as expected\n----\nRan 2 tests in 0.0s\n\nOK\n"
    assert judge(piped, base(0, TEN), outcome(0, log)).verdict == "green"


def test_a_parameter_with_a_dash_is_part_of_the_tests_name() -> None:
    one = "FAILED t.py::a[x - 1] - assert [1] - 2\n1 failed, 1 passed in 1s\n"
    assert words(one).failing == ("t.py::a[x - 1]",)
    other = one.replace("x - 1", "x - 2")
    assert judge(TEST, base(1, one), outcome(1, other)).verdict == "red"


def test_two_failures_of_one_name_are_not_told_apart() -> None:
    twice = "FAILED t.py::a[] - 1] - assert\nFAILED t.py::a[] - 2] - assert\n2 failed, 1 passed in 1s\n"
    assert not words(twice).whole
    once = "FAILED t.py::a[] - 1] - assert\n1 failed, 2 passed in 1s\n"
    assert judge(TEST, base(1, once), outcome(1, twice)).verdict == "red"


def test_fewer_and_other_tests_are_told_in_the_result() -> None:
    first = before("t::a t::b t::c")
    renamed = judge(TEST, first, outcome(0), reading("t::a t::b t::d"))
    counted = judge(TEST, base(0, TEN), outcome(0, "8 passed in 0.1s\n"))
    same = judge(TEST, first, outcome(0), reading("t::a t::b t::c"))
    line = TEST.command
    assert fewer_tests([renamed]) == [f"`{line}`: no longer there: t::c"]
    assert fewer_tests([counted]) == [f"`{line}`: 8 tests ran, 10 on the base"]
    assert fewer_tests([same]) == []
