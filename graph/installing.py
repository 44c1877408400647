"""One run of set-up commands, in a phase of its own, and what becomes of it."""

from __future__ import annotations

import time
from collections.abc import Callable

from graph.errors import Refused, SandboxFailed
from graph.ports import Phase, Ports, Workspace
from graph.prompting import clipped
from graph.receipts import note_command
from graph.values import Installed, Outcome

LOG = 3_000
"""Characters of a failed command's output that are kept, from its end."""


def install(
    ports: Ports,
    workspace: Workspace,
    about: Installed,
    name: str,
    seconds: float,
    after: Callable[[Phase], None] = lambda _: None,
) -> Installed:
    """Run the commands in a set-up phase and keep what they installed. `after`: called when all have ended well."""
    began = time.monotonic()
    with ports.installs.phase(workspace, note=ports.journal.note, go=about.go) as phase:
        failed, log = _run(ports, phase, about.commands, began + seconds)
        if not failed:
            try:
                after(phase)
                phase.keep(name)
            except Refused as exc:
                failed, log = str(exc), ""
            except SandboxFailed as exc:
                # What the commands left is what they made of it: a second try would end the same.
                failed, log = "what was installed could not be kept", _tail(str(exc))
    # Only now is everything known that was asked for.
    refused = phase.refused()
    if failed and refused:
        failed += f" (not let through: {'; '.join(refused[:5])})"
    took = time.monotonic() - began
    ports.journal.note("setup", found_in=about.found_in, seconds=round(took, 1), failed=failed)
    return about.model_copy(update={"name": "" if failed else name, "failed": failed, "log": log, "seconds": took})


def _run(ports: Ports, phase: Phase, commands: tuple[str, ...], deadline: float) -> tuple[str, str]:
    """Why it failed and the end of that command's output; empty when every command ended with 0."""
    for command in commands:
        ports.halt.check()
        try:
            outcome = phase.box.run(command, timeout=max(1.0, deadline - time.monotonic()))
        except SandboxFailed as exc:
            # The command killed its box, say: that is a failed set-up, and no reason to begin the turn again.
            return f"`{clipped(shown(command), 200)}`: {exc}", ""
        ports.halt.check()
        note_command(ports, outcome)
        if outcome.exit != 0:
            return _why(command, outcome), _tail(outcome.output)
    return "", ""


def shown(command: str) -> str:
    """A set-up command for people: of a line of ours that looks first, only what it is about."""
    line, _, about = command.partition("  # ")
    return about if about and "\n" not in command and " || " in line else command


def _why(command: str, outcome: Outcome) -> str:
    ends = {"timeout": "did not end within the time limit", "memory": "ran out of memory", "disk": "filled the disk"}
    if outcome.exit == 127:
        return f"`{clipped(shown(command), 200)}` needs a program that is not there (exit 127)"
    return f"`{clipped(shown(command), 200)}` {ends.get(outcome.ended, f'ended with exit {outcome.exit}')}"


def _tail(output: str) -> str:
    return output if len(output) <= LOG else "…" + output[-LOG:]
