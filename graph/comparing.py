"""Verdicts: a command with the change against the same command on the base. Pure.

*Not run* is decided on the base alone: what ran to its end there and does not with the change is red. What is green
with the change is green whatever the base was. "Green" with `old_failures` means: no new failures.

A base on which the runner works and there is nothing for it to run is like one without a test command: the tests that
come with the change are all its own, so they stand for themselves, and are red when they fail, cannot be loaded or do
not end. To call them not run would let a change leave with its own tests failing. Only a program or a service that is
not here excuses them, and packages where nothing could be installed.

A suite in which not one test passes, and that complains of a package or a service, needs that: it was not run. One in
which some pass and some fail for want of a service is red, with old failures.

A partial command runs some of the tests of its base. It says nothing of the others, so no test of it is missed; and
when it executes none, and none of what it names is broken either, there was nothing for it to judge: not run, whatever
the base was. That cannot hide that tests were deleted: the whole command, at the end, is compared in full. What cannot
be loaded any more is red.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from graph import missing, telling
from graph.outputs import KEPT_NAMES, Reading
from graph.reports import read
from graph.telling import stops_early
from graph.values import CheckResult, Command, Outcome, Verdict

_NONE = "not one test was executed"
_UNLOADED = "not one test could be started"
_MEMORY = "it ran out of memory"
_UNTOLD = "could not tell new failures from old ones"
_CUT = "a test binary ended before its tests"
_ENDS = {
    "timeout": "it did not end within the time limit",
    "output": "it printed too much and was ended",
    "memory": _MEMORY,
    "disk": "the workspace ran out of disk space",
    "stopped": "it was stopped",
}
_MAKE_FIVE = re.compile(r"^g?make(?:\[\d+\])?: \*\*\* .*\bError 5$", re.MULTILINE)
_HEAP = re.compile(
    r"JavaScript heap out of memory|^g?make(?:\[\d+\])?: \*\*\* .*(?:\bError 137$|\bKilled$)", re.MULTILINE
)
_LAST = 2_000
"""Characters of the end of an output."""
_FIRST = 5
"""Names that a reason holds."""
# Failing names that are no tests: a file, a package, what is made ready for a class.
_NO_TEST = re.compile(
    r"[^:>]+\.\w{1,5}|.* \[(?:build failed|setup failed|failed)\]|.*_FailedTest.*|(?:setUp|tearDown)(?:Class|Module) .*"
)


def why_not_run(command: Command, outcome: Outcome, reading: Reading | None = None) -> str:
    """Why this command cannot run here, in plain words; empty when it ran to its end. For the base alone."""
    reading = read(command, outcome, None) if reading is None else reading
    if outcome.ended != "exit":
        return _ENDS[outcome.ended]
    if outcome.exit == 137 or (not reading.executed and _HEAP.search(outcome.output)):
        return _MEMORY
    if program := missing.program(outcome, reading):
        return program
    if command.kind != "test" or reading.cut or (outcome.exit == 0 and reading.executed is None):
        return ""
    if reading.executed == 0 and reading.empty and outcome.exit in (0, 5):
        return _NONE
    if reading.executed is None and not reading.failing:
        # Nobody knows whether something ran. Only what was said last is why it ended.
        return missing.package_or_service(outcome.output[-_LAST if not command.runner else 0 :])
    if reading.executed == 0:
        return missing.package_or_service(outcome.output) or (_NONE if reading.empty else _UNLOADED)
    return missing.service(outcome.output) if reading.passed == 0 and outcome.exit != 0 else ""


def baseline(command: Command, outcome: Outcome, reading: Reading | None = None) -> CheckResult:
    """The verdict on the base, before any change. `reading`: None when there is no report."""
    reading = read(command, outcome, None) if reading is None else reading
    result = _alone(command, outcome, reading)
    passing = reading.passing if len(reading.passing) <= KEPT_NAMES else ()
    return result.model_copy(update={"passing": passing})


def _alone(command: Command, outcome: Outcome, reading: Reading) -> CheckResult:
    if reason := why_not_run(command, outcome, reading):
        return _result(command, outcome, reading, "not run", reason)
    if outcome.exit == 0 and not (command.kind == "test" and reading.cut):
        # A pipe or `|| true` may hide failures: those are known, then, and not the change's.
        failing = reading.failing if command.kind == "test" else ()
        return _result(command, outcome, reading, "green", failing=failing)
    reason = _CUT if outcome.exit == 0 else _exit(outcome)
    return _result(command, outcome, reading, "red", reason, failing=reading.failing)


def _own(command: Command, outcome: Outcome, reading: Reading, *, bare: bool) -> CheckResult:
    """Of tests that came with the change: what they cannot load, and how long they take, is the change's doing."""
    if reason := _kept_from_running(command, outcome, reading, bare=bare):
        return _result(command, outcome, reading, "not run", reason)
    if reason := _doubt(command, None, outcome, reading):
        return _result(command, outcome, reading, "red", reason, failing=reading.failing)
    if outcome.ended == "exit" and outcome.exit == 0:
        return _result(command, outcome, reading, "green")
    why = why_not_run(command, outcome, reading) if outcome.ended == "exit" else ""
    return _result(command, outcome, reading, "red", f"{_exit(outcome)}{why and f': {why}'}", failing=reading.failing)


def _kept_from_running(command: Command, outcome: Outcome, reading: Reading, *, bare: bool) -> str:
    if outcome.ended != "exit" or outcome.exit == 137:
        return ""
    if program := missing.program(outcome, reading):
        return program
    if command.kind != "test" or (outcome.exit == 0 and reading.executed is None):
        return ""
    if reading.executed == 0 and reading.empty and (outcome.exit in (0, 5) or _MAKE_FIVE.search(outcome.output)):
        return _NONE
    if reading.passed or (reading.executed and reading.passed is None):
        return ""
    said = outcome.output[-_LAST if not command.runner and reading.executed is None else 0 :]
    if outcome.exit == 0:
        return ""
    return (missing.package_or_service if bare and not reading.executed else missing.service)(said)


def judge(
    command: Command,
    base: CheckResult | None,
    outcome: Outcome,
    reading: Reading | None = None,
    *,
    bare: bool = False,
) -> CheckResult:
    """The verdict with the change. `base` is None for a command that the base did not have: then it stands for itself,
    as it does when the base had the command and no tests for it. Of a partial command it may be the whole suite's.
    `bare`: nothing could be installed, so packages that are missing are not the change's doing.

    When both are red, it is green with `old_failures` listed if the same runner ended the same way and every failing
    test failed on the base too ("no new failures"); where the output names no tests, it is red.
    """
    reading = read(command, outcome, None) if reading is None else reading
    if command.partial and _found_none(command, outcome, reading):
        return _result(command, outcome, reading, "not run", _NONE)
    if base is None:
        return _own(command, outcome, reading, bare=bare)
    if _passed(command, base, outcome, reading):
        return _compared(command, base, outcome, reading, "green")
    if base.verdict == "not run":
        if base.reason == _NONE:
            return _own(command, outcome, reading, bare=bare)
        reason = _why_not_judged(command, base, outcome, reading)
        return _result(command, outcome, reading, "not run", reason, failing=reading.failing)
    if base.verdict == "red" and _no_new(command, base, outcome, reading):
        if doubt := telling.untold(command, _output(base), outcome):
            return _compared(command, base, outcome, reading, "red", f"{_exit(outcome)}; {_UNTOLD}: {doubt}")
        return _compared(command, base, outcome, reading, "green", "no new failures; what fails failed before")
    return _compared(command, base, outcome, reading, "red", _why_red(command, base, outcome, reading))


def _result(
    command: Command,
    outcome: Outcome,
    reading: Reading,
    verdict: Verdict,
    reason: str = "",
    failing: tuple[str, ...] = (),
) -> CheckResult:
    return CheckResult(
        command=command,
        verdict=verdict,
        outcome=outcome,
        reason=reason,
        failing=failing,
        executed=reading.executed,
    )


def _compared(
    command: Command, base: CheckResult, outcome: Outcome, reading: Reading, verdict: Verdict, reason: str = ""
) -> CheckResult:
    """With what is known by name of both runs."""
    failing = reading.failing if verdict == "red" or reason else ()
    known, passing = set(base.failing), set(reading.passing)
    gone = _vanished(command, base, reading)
    fewer = _fewer(command, base, reading, gone) if verdict == "green" else ""
    reason = "; ".join(part for part in (reason, fewer) if part)
    return _result(command, outcome, reading, verdict, reason, failing).model_copy(
        update={
            "old_failures": tuple(name for name in failing if name in known),
            "newly_passing": tuple(name for name in base.failing if name in passing),
            "vanished": gone,
            "fewer": fewer or (f"no longer there: {_listed(gone)}" if gone and verdict == "green" else ""),
        }
    )


def _vanished(command: Command, base: CheckResult, reading: Reading) -> tuple[str, ...]:
    """Only where both runs name all their tests: of what is not named nobody knows whether it is gone."""
    if command.partial or not reading.named or base.verdict == "not run" or base.executed is None:
        return ()
    if not base.passing and base.executed > sum(not _NO_TEST.fullmatch(name) for name in base.failing):
        return ()
    # Tests of a file that cannot be loaded are not gone.
    broken = tuple(name.partition(" [")[0] for name in reading.failing if _NO_TEST.fullmatch(name))
    if broken and not reading.executed:
        return ()
    now = {*reading.passing, *reading.failing}
    before = (*base.passing, *(name for name in base.failing if not _NO_TEST.fullmatch(name)))
    return tuple(dict.fromkeys(name for name in before if name not in now and not name.startswith(broken)))


def _fewer(command: Command, base: CheckResult, reading: Reading, gone: tuple[str, ...]) -> str:
    """That fewer tests ran than on the base, in words; empty if not fewer did."""
    if command.partial or base.verdict == "not run" or base.executed is None or reading.executed is None:
        return ""
    if reading.executed >= base.executed:
        return ""
    ran = f"{reading.executed} {'test' if reading.executed == 1 else 'tests'} ran, {base.executed} on the base"
    skipped = set(reading.skipped)
    away = [name for name in gone if name not in skipped]
    left_out = [name for name in gone if name in skipped]
    parts = [ran, f"gone: {_listed(away)}" if away else "", f"skipped now: {_listed(left_out)}" if left_out else ""]
    return "; ".join(part for part in parts if part)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _FIRST} more" if len(names) > _FIRST else ""
    return f"{', '.join(names[:_FIRST])}{more}"


def _found_none(command: Command, outcome: Outcome, reading: Reading) -> bool:
    return command.kind == "test" and outcome.ended == "exit" and reading.executed == 0 and reading.empty


def _passed(command: Command, base: CheckResult, outcome: Outcome, reading: Reading) -> bool:
    if outcome.ended != "exit" or outcome.exit != 0:
        return False
    # Deleting the tests would make them pass: a suite that ran tests on the base must run some.
    return command.kind != "test" or (reading.executed != 0 and not _doubt(command, base, outcome, reading))


def _doubt(command: Command, base: CheckResult | None, outcome: Outcome, reading: Reading) -> str:
    """Why a test command that ended with 0 is not believed; empty when it is."""
    if command.kind != "test" or outcome.ended != "exit" or outcome.exit != 0:
        return ""
    if reading.cut:
        return _CUT
    if new := _new(base, reading):
        return f"exit code 0, but its report names failing tests: {_listed(new)}"
    if base is None or command.partial or reading.executed is not None or reading.told or not base.executed:
        return ""
    return f"it no longer says that any test ran; on the base {base.executed} did"


def _new(base: CheckResult | None, reading: Reading) -> list[str]:
    known = set(base.failing) if base else set()
    return [name for name in reading.failing if name not in known]


def _no_new(command: Command, base: CheckResult, outcome: Outcome, reading: Reading) -> bool:
    if base.outcome is None or outcome.ended != "exit" or not reading.whole:
        return False
    if not set(reading.failing) <= set(base.failing):
        return False
    if outcome.exit == base.outcome.exit and reading.executed != 0:
        return True
    # A few of the tests: pytest ends with 2 when none could be loaded, and with 1 when the others run beside them.
    return command.partial and {outcome.exit, base.outcome.exit} <= {1, 2}


def stuck(base: CheckResult) -> str:
    """Of a base that is red: why each change will be red too, whatever it does; empty when old failures are excused."""
    if base.outcome is None or base.command.kind != "test" or not base.failing:
        return "names no tests"
    if stops_early(base.command, base.outcome):
        return "stops at its first failures"
    doubt = telling.untold(base.command, base.outcome.output, base.outcome)
    return f"names tests, but {doubt}" if doubt else ""


def _output(result: CheckResult) -> str:
    return result.outcome.output if result.outcome else ""


def _why_not_judged(command: Command, base: CheckResult, outcome: Outcome, reading: Reading) -> str:
    """True of both runs: this is said of the one with the change, which may have ended otherwise."""
    now = why_not_run(command, outcome, reading)
    if now == base.reason or base.outcome is None:
        # Not even begun on the base: what kept it from that is all there is to say.
        return base.reason
    if not now:
        failing = len(reading.failing) if reading.whole else 0
        tests = f"{failing} {'test fails' if failing == 1 else 'tests fail'}, " if failing else ""
        now = f"{tests}{_exit(outcome)}"
    return f"could not be judged: on the base {_it(base.reason)}; with the change {_it(now)}"


def _it(reason: str) -> str:
    return f"it {reason}" if reason.startswith("needs ") else reason


def _why_red(command: Command, base: CheckResult, outcome: Outcome, reading: Reading) -> str:
    if outcome.ended != "exit":
        return f"{_ENDS[outcome.ended]}; on the base it ran to its end"
    if doubt := _doubt(command, base, outcome, reading):
        return doubt
    if outcome.exit == 0:
        return "not one test is executed any more; on the base some were"
    if (why := why_not_run(command, outcome, reading)) and not reading.executed:
        new = _new(base, reading)
        named = f"; newly failing: {_listed(new)}" if new else ""
        return f"{_exit(outcome)}: {why}; on the base it ran to its end{named}"
    if base.verdict == "red" and not reading.failing and not base.failing:
        return "was red before too; this runner's output does not name tests"
    new = _new(base, reading)
    if base.verdict == "red" and not new and reading.stopped:
        return f"{_exit(outcome)}; {_UNTOLD}: it stops at its first failures"
    return f"{_exit(outcome)}; newly failing: {_listed(new)}" if new else _exit(outcome)


def _exit(outcome: Outcome) -> str:
    return f"exit code {outcome.exit}" if outcome.ended == "exit" else _ENDS[outcome.ended]
