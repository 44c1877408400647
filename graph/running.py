"""Running a repository's own commands, recorded as they end."""

from __future__ import annotations

from collections.abc import Sequence

from graph.ports import Box, Ports
from graph.values import Command, Outcome
from graph.working import note_command


def run_all(ports: Ports, box: Box, commands: Sequence[Command]) -> list[tuple[Command, Outcome]]:
    """Each command once, in order, whatever the others did. Raises Stopped when the turn is stopped meanwhile."""
    ran = []
    for command in commands:
        ports.halt.check()
        limit = ports.rules.test_seconds if command.kind == "test" else ports.rules.command_seconds
        outcome = box.run(command.command, timeout=limit)
        # What the stop killed has no verdict.
        ports.halt.check()
        note_command(ports, outcome)
        ran.append((command, outcome))
    return ran
