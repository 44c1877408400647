"""Verdicts: a command with the change against the same command on the base. Pure.

*Not run* is decided on the base alone: what ran to its end there and does not with the change is red. What is green
with the change is green whatever the base was. "Green" with `old_failures` means: no new failures.

A base on which the runner works and there is nothing for it to run is like one without a test command: the tests that
come with the change are all its own, so they stand for themselves, and are red when they fail. To call them not run
would let a change leave with its own tests failing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from graph.values import CheckResult, Command, Outcome

_PYTEST_LINE = re.compile(r"^=*\s*((?:\d+ [a-z]+(?:, )?)+) in [\d.]+ ?s.*$", re.MULTILINE)
_PYTEST_NAME = re.compile(r"^(?:FAILED|ERROR) (\S.*?)(?: - .*)?$", re.MULTILINE)
_UNITTEST_RAN = re.compile(r"^Ran (\d+) tests? in ", re.MULTILINE)
_UNITTEST_NAME = re.compile(r"^(?:FAIL|ERROR): (.+)$", re.MULTILINE)
_UNITTEST_SUM = re.compile(r"^FAILED \((.*)\)$", re.MULTILINE)
_NO_MODULE = re.compile(r"^\S*python[\d.]*(?:\.exe)?: No module named (\S+)$", re.MULTILINE)
_MAKE_ERROR = re.compile(r"^g?make(?:\[\d+\])?: \*\*\* .*\bError (126|127)\b", re.MULTILINE)
_NO_TESTS = re.compile(r"no tests ran|no tests found|no test files|no tests to run|collected 0 items", re.IGNORECASE)
_CARGO_RAN = re.compile(r"^running (\d+) tests?$", re.MULTILINE)
_NO_PACKAGE = re.compile(r"ModuleNotFoundError: No module named '([^']+)'")
_NONE = "not one test was executed"
_EXECUTED = frozenset({"passed", "failed", "skipped", "xfailed", "xpassed"})
_ENDS = {
    "timeout": "it did not end within the time limit",
    "output": "it printed too much and was ended",
    "memory": "it ran out of memory",
    "disk": "the workspace ran out of disk space",
    "stopped": "it was stopped",
}


@dataclass(frozen=True)
class Reading:
    """What a runner's output says. `executed`: number of tests, None when it does not say."""

    executed: int | None
    failing: tuple[str, ...]
    whole: bool
    """False when the names are fewer than the failures that the runner counted."""
    empty: bool = False
    """True when there was nothing to execute, not even tests that could not be loaded."""


def read(output: str) -> Reading:
    """Understands pytest's and unittest's words, and cargo's number of tests."""
    lines = _PYTEST_LINE.findall(output)
    if lines:
        return _read_pytest(output, lines[-1])
    ran = _UNITTEST_RAN.findall(output)
    if ran:
        return _read_unittest(output, sum(map(int, ran)))
    if cargo := _CARGO_RAN.findall(output):
        executed = sum(map(int, cargo))
        return Reading(executed, (), whole=False, empty=executed == 0)
    none = bool(_NO_TESTS.search(output))
    return Reading(0 if none else None, (), whole=False, empty=none)


def _read_pytest(output: str, summary: str) -> Reading:
    counts = {word: int(number) for number, word in re.findall(r"(\d+) ([a-z]+)", summary)}
    names = tuple(dict.fromkeys(_PYTEST_NAME.findall(output)))
    failures = counts.get("failed", 0) + counts.get("error", 0) + counts.get("errors", 0)
    executed = sum(number for word, number in counts.items() if word in _EXECUTED)
    return Reading(executed, names, whole=len(names) >= failures > 0, empty=executed + failures == 0)


def _read_unittest(output: str, ran: int) -> Reading:
    names = tuple(dict.fromkeys(_UNITTEST_NAME.findall(output)))
    sums = [int(n) for line in _UNITTEST_SUM.findall(output) for n in re.findall(r"(?:failures|errors)=(\d+)", line)]
    # A module that cannot be imported is counted as one test that ran.
    unloaded = sum("_FailedTest" in name for name in names)
    empty = ran + len(names) + sum(sums) == 0
    return Reading(max(ran - unloaded, 0), names, whole=len(names) >= sum(sums) > 0, empty=empty)


def why_not_run(command: Command, outcome: Outcome) -> str:
    """Why this command cannot run here, in plain words; empty when it ran to its end. For the base alone."""
    if outcome.ended != "exit":
        return _ENDS[outcome.ended]
    if outcome.exit in (126, 127) or _MAKE_ERROR.search(outcome.output):
        return "a program that it needs is missing here"
    if missing := _NO_MODULE.search(outcome.output):
        return f"the Python package {missing[1]} is missing here"
    if command.kind != "test":
        return ""
    executed = read(outcome.output).executed
    if executed == 0:
        package = _NO_PACKAGE.search(outcome.output)
        return f"{_NONE}{f' (no module {package[1]})' if package else ''}"
    return _NONE if outcome.exit == 5 and executed is None else ""


def _was_empty(base: CheckResult) -> bool:
    """The runner was there, and no tests for it."""
    return base.reason == _NONE and base.outcome is not None and _is_empty(base.outcome)


def _is_empty(outcome: Outcome) -> bool:
    reading = read(outcome.output)
    return reading.empty or (outcome.exit == 5 and reading.executed is None)


def baseline(command: Command, outcome: Outcome) -> CheckResult:
    """The verdict on the base, before any change."""
    if reason := why_not_run(command, outcome):
        return CheckResult(command=command, verdict="not run", outcome=outcome, reason=reason)
    if outcome.exit == 0:
        return CheckResult(command=command, verdict="green", outcome=outcome)
    failing = read(outcome.output).failing
    return CheckResult(command=command, verdict="red", outcome=outcome, reason=_exit(outcome), failing=failing)


def judge(command: Command, base: CheckResult | None, outcome: Outcome) -> CheckResult:
    """The verdict with the change. `base` is None for a command that the base did not have: then it stands for itself,
    as it does when the base had the command and no tests for it.

    When both are red, it is green with `old_failures` listed if the same runner ended the same way and every failing
    test failed on the base too ("no new failures"); where the output names no tests, it is red.
    """
    if base is None:
        return baseline(command, outcome)
    if _passed(command, outcome):
        return CheckResult(command=command, verdict="green", outcome=outcome)
    if _was_empty(base):
        return baseline(command, outcome)
    reading = read(outcome.output)
    if base.verdict == "not run":
        reason = _why_not_judged(command, base, outcome, reading)
        return CheckResult(command=command, verdict="not run", outcome=outcome, reason=reason, failing=reading.failing)
    known = set(base.failing)
    old = tuple(name for name in reading.failing if name in known)
    if base.verdict == "red" and _no_new(base, outcome, reading):
        reason = "no new failures; what fails failed before"
        return CheckResult(
            command=command, verdict="green", outcome=outcome, reason=reason, failing=reading.failing, old_failures=old
        )
    reason = _why_red(base, outcome, reading)
    return CheckResult(
        command=command, verdict="red", outcome=outcome, reason=reason, failing=reading.failing, old_failures=old
    )


def _passed(command: Command, outcome: Outcome) -> bool:
    if outcome.ended != "exit" or outcome.exit != 0:
        return False
    # Deleting the tests would make them pass: a suite that ran tests on the base must run some.
    return not (command.kind == "test" and read(outcome.output).executed == 0)


def _no_new(base: CheckResult, outcome: Outcome, reading: Reading) -> bool:
    same_end = base.outcome is not None and outcome.ended == "exit" and outcome.exit == base.outcome.exit
    return same_end and reading.whole and reading.executed != 0 and set(reading.failing) <= set(base.failing)


def _why_not_judged(command: Command, base: CheckResult, outcome: Outcome, reading: Reading) -> str:
    """True of both runs: this is said of the one with the change, which may have ended otherwise."""
    now = why_not_run(command, outcome)
    if now == base.reason:
        return now
    if not now:
        failing = len(reading.failing) if reading.whole else 0
        tests = f"{failing} {'test fails' if failing == 1 else 'tests fail'}, " if failing else ""
        now = f"{tests}{_exit(outcome)}"
    return f"could not be judged: on the base {base.reason}; with the change {now}"


def _why_red(base: CheckResult, outcome: Outcome, reading: Reading) -> str:
    if outcome.ended != "exit":
        return f"{_ENDS[outcome.ended]}; on the base it ran to its end"
    if outcome.exit == 0:
        return "not one test is executed any more; on the base some were"
    if base.verdict == "red" and not reading.failing and not base.failing:
        return "was red before too; this runner's output does not name tests"
    new = [name for name in reading.failing if name not in set(base.failing)]
    if new and base.verdict == "red":
        return f"{_exit(outcome)}; new: {', '.join(new[:5])}"
    return _exit(outcome)


def _exit(outcome: Outcome) -> str:
    return f"exit code {outcome.exit}" if outcome.ended == "exit" else _ENDS[outcome.ended]
