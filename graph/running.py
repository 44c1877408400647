"""Running a repository's own commands, recorded as they end, with what is known of each test."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from graph.ports import Box, Ports
from graph.receipts import note_command
from graph.reports import Reading, asked, read, refused, report_of, shown
from graph.values import Command, Outcome


class Ran(NamedTuple):
    command: Command
    outcome: Outcome
    reading: Reading


def run_all(
    ports: Ports, box: Box, commands: Sequence[Command], limits: Callable[[Command], float] | None = None
) -> list[Ran]:
    """Each command once, in order, whatever the others did. Raises Stopped when the turn is stopped meanwhile.

    `limits`: seconds that a command may take; None: those of the rules.
    """
    rules = ports.rules
    ran = []
    for command in commands:
        ports.halt.check()
        usual = rules.test_seconds if command.kind == "test" else rules.command_seconds
        ran.append(_run(ports, box, command, limits(command) if limits else usual))
    return ran


def _run(ports: Ports, box: Box, command: Command, limit: float) -> Ran:
    if command.kind != "test":
        outcome = _once(ports, box, command.command, {}, limit)
        return Ran(command, outcome, read(command, outcome, None))
    name = report_of(command)
    root = _cleared(box, name)
    line, env = asked(command, box.scratch)
    outcome = _once(ports, box, line, env, limit)
    report = box.left(name) if root else None
    if refused(command, outcome, report):
        first = outcome.seconds
        outcome = _once(ports, box, command.command, {}, limit)
        outcome, report = outcome.model_copy(update={"seconds": first + outcome.seconds}), None
    outcome = shown(command, outcome, report)
    return Ran(command, outcome, read(command, outcome, report, root))


def _once(ports: Ports, box: Box, line: str, env: Mapping[str, str], limit: float) -> Outcome:
    outcome = box.run(line, timeout=limit, env=env) if env else box.run(line, timeout=limit)
    # What the stop killed has no verdict.
    ports.halt.check()
    variables = "".join(f"{name}={shlex.quote(value)} " for name, value in env.items())
    note_command(ports, outcome.model_copy(update={"command": f"{variables}{line}"}))
    return outcome


def _cleared(box: Box, name: str) -> str:
    """Take away an earlier run's report, which would be taken for this one's. Gives the checkout's path inside; empty
    when that failed: then no report counts.
    """
    path = shlex.quote(f"{box.scratch}/{name}")
    outcome = box.run(f"rm -rf -- {path} && [ ! -e {path} ] && pwd -P")
    return outcome.output.strip() if outcome.ended == "exit" and outcome.exit == 0 else ""
