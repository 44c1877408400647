"""What was run and how it ended, in words: made of recorded outcomes and of nothing that a model said."""

from __future__ import annotations

from collections.abc import Sequence

from graph.ports import Ports
from graph.prompting import clipped
from graph.values import CheckResult, Outcome
from graph.verdicts import red

KEPT = 6_000
"""Characters of a command's output that the state keeps: the whole was in the log when it ran."""


def line_of(check: CheckResult) -> str:
    outcome = check.outcome
    reason = f" ({check.reason})" if check.reason else ""
    if outcome is None:
        return f"`{check.command.command}`: {check.verdict}{reason}"
    end = f"exit {outcome.exit}" if outcome.ended == "exit" else outcome.ended
    return f"`{check.command.command}`: {check.verdict}, {end}, {outcome.seconds:.1f} s{reason}"


def slim(check: CheckResult) -> CheckResult:
    """The same with a shorter output, for the state: each checkpoint holds it."""
    if check.outcome is None:
        return check
    outcome = check.outcome.model_copy(update={"output": clipped(check.outcome.output, KEPT)})
    return check.model_copy(update={"outcome": outcome})


def report(checks: Sequence[CheckResult]) -> str:
    """What was red, with the end of its output, for the model."""
    parts = []
    for check in red(checks):
        output = check.outcome.output if check.outcome else ""
        parts.append(f"{line_of(check)}\n{clipped(output, KEPT)}")
    return "\n\n".join(parts)


def note_command(ports: Ports, outcome: Outcome) -> None:
    ports.journal.note(
        "command",
        command=clipped(outcome.command, 2000),
        exit=outcome.exit,
        ended=outcome.ended,
        seconds=round(outcome.seconds, 3),
    )
