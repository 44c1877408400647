"""Whether the failing tests that a run names can be all that is wrong with it. Pure.

Only then do old failures excuse a red run. In doubt they do not: a red that was old costs a question, a new one that
passes for old is published.
"""

from __future__ import annotations

import re

from graph.outputs import runs
from graph.runners import plain
from graph.values import Command, Outcome

_COVERAGE = re.compile(
    r"^(?:ERROR: )?Coverage failure:|^(?:FAIL|ERROR:?) Required test coverage|^ERROR: Coverage for "
    r"|^Jest: .{0,200}coverage (?:threshold|data)",
    re.MULTILINE,
)
_KEEPS_GOING = re.compile(r"\bg?make\b.{0,300}\s(?:-\w*[ki]\w*|--keep-going|--ignore-errors)(?=\s|$)")
_MAKE_ERROR = re.compile(r"^(g?make(?:\[\d+\])?): \*\*\* \[", re.MULTILINE)
# What a starter says of the runner that failed.
_STARTER = re.compile(
    r"\s*|g?make(?:\[\d+\])?: .*|npm (?:ERR!|error)\b.*|.*\bELIFECYCLE\b.*|error Command failed .*|info Visit .*"
    r"|\S+: exit 1 .*|  \S+: FAIL code 1 .*|  evaluation failed .*|nox > (?:Command|Session) .{1,500} failed\b.*"
    r"|error: test failed, to rerun .*|error: \d+ targets? failed:"
)
_SESSION = re.compile(r"^  \S+: FAIL code \d+|^nox > Session .{1,200} failed", re.MULTILINE)
_FOLDER_FIRST = re.compile(r"\s*cd [\w./-]+\s*&&")
_SUM_OF_PYTEST = re.compile(r"^=*[ \t]*\d+ (?:subtests )?[a-z]+\b.* in [\d.]+ ?s.*$", re.MULTILINE)
_SUM = re.compile(r"^FAILED \(.*\)$|^test result: .*$|^FAIL(?:\t.*)?$", re.MULTILINE)
_CARGO_STOPPED = re.compile(r"^error: test failed, to rerun ", re.MULTILINE)
_CARGO_WENT_ON = re.compile(r"^error: \d+ targets? failed:", re.MULTILINE)
_WORDS = re.compile(r"\b(?:fail(?:ed|ures?|ing|s)?|errors?|broken|not ok|panic|fatal)\b|[✗✘✖]", re.IGNORECASE)
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_STOPPED = re.compile(
    r"^!+ (?:xdist\.dsession\.Interrupted: )?stopping after \d+ failures? !+$"
    r"|^Test Suites: .*, \d+ of \d+ total$|^Interrupted: Test failed, continuing from this test next run",
    re.MULTILINE,
)
_STOPS = re.compile(
    r"\b(?:pytest|py\.test)\b[^\n]{0,300}\s(?:-[qvsl]*x[a-z]*|--exitfirst|--sw|--stepwise)(?=\s|$)"
    r"|\b(?:pytest|py\.test)\b[^\n]{0,300}\s--maxfail[= ][1-9]"
    r"|\bunittest\b[^\n]{0,300}\s(?:-[bqv]*f|--failfast)(?=\s|$)"
    r"|\b(?:jest|vitest|mocha)\b[^\n]{0,300}\s(?:-b(?=\s|$)|--bail(?![= ]?(?:0|false)\b))"
    r"|\bgo\s+test\b[^\n]{0,300}\s--?failfast\b(?!=false)"
    r"|^[^\n]{0,80}\b(?:npm|pnpm|yarn)\b[^\n]{0,300}\s--bail(?![= ]?(?:0|false)\b)",
    re.MULTILINE,
)


def stops_early(command: Command, outcome: Outcome) -> bool:
    """Whether it ends at its first failures: of the tests after those nobody knows anything.

    Starters print the command line that they start, with the options that a script gives it.
    """
    text = _ANSI.sub("", outcome.output)
    if command.runner != "cargo" and _CARGO_STOPPED.search(text) and not _CARGO_WENT_ON.search(text):
        return True
    return any(pattern.search(said) for pattern in (_STOPPED, _STOPS) for said in (command.command, text))


def untold(command: Command, before: str, outcome: Outcome) -> str:
    """Why more may fail than the tests that are named; empty when nothing speaks for it. `before`: what the same
    command printed on the base."""
    if command.kind != "test":
        return "only tests are told apart by name"
    if _COVERAGE.search(outcome.output) and not _COVERAGE.search(before):
        return "the coverage is too low"
    if not plain(_FOLDER_FIRST.sub("", command.command, count=1)):
        return "the command line runs more than one command"
    if command.runner:
        return ""
    text = _ANSI.sub("", outcome.output)
    errors = _MAKE_ERROR.findall(text)
    if _KEEPS_GOING.search(command.command) or len(errors) != len(set(errors)) or len(_SESSION.findall(text)) > 1:
        return "it goes on after a failure"
    if runs(text) > 1:
        return "more than one test runner ran"
    return "" if _ends_with_its_tests(text) else "something else failed after the tests"


def _ends_with_its_tests(text: str) -> bool:
    """What is said last is why it ended. Nothing may follow on pytest's sum but a starter's words; behind the sums of
    other runners stands also what tests printed."""
    pytests = list(_SUM_OF_PYTEST.finditer(text))
    ends = pytests or list(_SUM.finditer(text))
    after = text[ends[-1].end() :] if ends else ""
    rest = [line for line in after.splitlines() if not _STARTER.fullmatch(line)]
    return not rest if pytests else not any(_WORDS.search(line) for line in rest)
