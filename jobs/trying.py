"""`threadwright check`: what a task would see in a repository before its first step, and what it would miss.

The very functions of a task's beginning, in the same sandbox, without a model and without Redis. What is installed
meanwhile is kept for tasks.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, cast

from graph import commands
from graph.checking import QUICK
from graph.comparing import stuck
from graph.errors import BadInput, Misconfigured
from graph.installing import shown
from graph.ports import Ports
from graph.project import Project
from graph.projectfile import parse
from graph.serving import serve
from graph.setting_up import base_setup
from graph.starting import base_results, said_by
from graph.state import TaskState
from graph.tomlplaces import NAME
from graph.values import Brief, CheckResult, Command, Installed, Person, Repository
from graph.working import bare_box, open_box
from jobs import wiring
from jobs.settings import Settings
from jobs.wording import duration

_VARIABLES = re.compile(r"^(?:[A-Z_]+=(?:'[^']*'|\S)* )+")


class NoModel:
    """A trial asks no model."""

    def answer(self, *_: object, **__: object) -> NoReturn:
        raise Misconfigured("A trial asks no model.")

    decide = answer


class TrialBaselines:
    """Nothing is taken from earlier runs: a trial wants to see how it ends now."""

    def find(self, key: str) -> CheckResult | None:  # noqa: ARG002 - of the port
        return None

    def keep(self, key: str, result: CheckResult) -> None:
        pass


@dataclass
class TrialJournal:
    """Says each command as it ends."""

    say: Callable[[str], None]
    hosts: dict[str, int] = field(default_factory=dict)

    def begin(self, key: str, what: str) -> str | None:  # noqa: ARG002 - of the port
        return None

    def end(self, key: str, result: str) -> None:
        pass

    def note(self, kind: str, **fields: Any) -> None:
        if kind == "network":
            host = str(fields.get("host", ""))
            self.hosts[host] = self.hosts.get(host, 0) + 1
        if kind == "command":
            end = f"exit {fields['exit']}" if fields["ended"] == "exit" else fields["ended"]
            # The variables with which a runner was asked for its results are in the log of a task; here they are noise.
            command = str(fields["command"])
            line = " ".join(_VARIABLES.sub("", shown(command)).split())
            mark = "$ " if shown(command) == command else ""
            line = line if len(line) <= 160 else line[:159] + "…"
            self.say(f"  {mark}{line}   {end}, {duration(fields['seconds'])}")


@dataclass(frozen=True)
class Trial:
    """`missing`: what keeps a task from trusting its checks, a sentence each."""

    repository: Repository
    commit: str
    project: Project | None
    """None: there is no file."""
    commands: tuple[Command, ...]
    installed: Installed
    services: str
    baseline: tuple[CheckResult, ...]
    missing: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def data(self) -> dict[str, Any]:
        return {
            "repository": self.repository.name,
            "base": self.repository.base,
            "commit": self.commit,
            "file": self.project is not None,
            "commands": [command.model_dump() for command in self.commands],
            "setup": self.installed.model_dump(),
            "services": self.services or "ready",
            "baseline": [
                {
                    "command": check.command.command,
                    "verdict": check.verdict,
                    "reason": check.reason,
                    "executed": check.executed,
                    "failing": list(check.failing),
                    "seconds": round(check.outcome.seconds, 2) if check.outcome else None,
                }
                for check in self.baseline
            ],
            "missing": list(self.missing),
            "notes": list(self.notes),
        }


def attempt(settings: Settings, repo: str, branch: str, config: Path | None, say: Callable[[str], None]) -> Trial:
    """Raises BadInput (the file), RepositoryProblem, SandboxFailed, Misconfigured."""
    journal = TrialJournal(say)
    wiring.check_sandbox(settings)
    with wiring.trial_of(settings, NoModel(), TrialBaselines(), journal) as ports:
        repository = wiring.forge_of(settings).resolve(repo, allow_paths=True)
        repository, commit = ports.workspaces.fetch(repository, branch)
        found = _file(ports, repository, config)
        brief = Brief(
            id=f"check-{secrets.token_hex(4)}", text="", requester=Person(id="check"), created=datetime.now(UTC)
        )
        state = cast(
            "TaskState",
            {
                "brief": brief,
                "repository": repository,
                "base_sha": commit,
                "head": commit,
                "project": found or Project(),
            },
        )
        try:
            trial = _look(state, ports, found, journal, say)
            return replace(trial, notes=tuple(_notes(trial, settings)))
        finally:
            ports.workspaces.drop(brief.id, repository)


def _file(ports: Ports, repository: Repository, config: Path | None) -> Project | None:
    if config is None:
        if ports.workspaces.text(repository, NAME) is None:
            return None
        return said_by(ports, repository)
    try:
        return parse(config.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise BadInput(f"{config} cannot be read: {exc}") from exc


def _look(
    state: TaskState, ports: Ports, found: Project | None, journal: TrialJournal, say: Callable[[str], None]
) -> Trial:
    project = state["project"]
    lines = commands.find(bare_box(state, ports), project.checks)
    state = {**state, "commands": lines}
    say("Set-up:")
    installed = base_setup(state, ports)
    state = {**state, "installed": installed}
    say(f"  {_setup_line(installed, journal)}")
    services = ""
    if project.services and not installed.failed:
        services = serve(ports, open_box(state, ports), project.services)
        names = ", ".join(service.name for service in project.services)
        say(f"Services:\n  {services or f'{names}: ready'}")
    if lines:
        say("Checks on the base:")
    baseline = base_results(state, ports)
    return Trial(
        repository=state["repository"],
        commit=state["base_sha"],
        project=found,
        commands=tuple(lines),
        installed=installed,
        services=services,
        baseline=tuple(baseline),
        missing=tuple(_missing(lines, installed, baseline)),
    )


def _notes(trial: Trial, settings: Settings) -> list[str]:
    """What is said in the file and comes to nothing on this machine, and what a person may not expect."""
    said = []
    if trial.project is not None and trial.project.image and settings.sandbox not in ("docker", "podman"):
        said.append(f"image: not used here, where the sandbox is {settings.sandbox}; docker and podman use it")
    for check in trial.baseline:
        if check.verdict == "red" and not stuck(check):
            said.append(f"`{check.command.command}` is red already; what fails now is not held against a change")
        if check.command.kind == "test" and check.outcome and check.outcome.seconds > QUICK:
            said.append(
                f"`{check.command.command}` takes {duration(check.outcome.seconds)}: steps run the tests of what they "
                "touched, and all of it runs once before anything is published"
            )
    return said


def _setup_line(installed: Installed, journal: TrialJournal) -> str:
    asked = sum(journal.hosts.values())
    network = f", {asked} requests to {', '.join(sorted(journal.hosts))}" if asked else ""
    if installed.failed:
        return f"failed: {installed.failed}\n{installed.log}".rstrip()
    if installed.skipped:
        return f"not done ({installed.found_in}): {installed.skipped}"
    if not installed.found_in:
        return "nothing to install was found"
    if installed.reused:
        return f"{installed.found_in}: kept from an earlier time"
    return f"{installed.found_in}: done in {duration(installed.seconds)}{network}"


def _missing(lines: list[Command], installed: Installed, baseline: list[CheckResult]) -> list[str]:
    said = []
    if installed.failed:
        said.append(f"Set-up failed, so no check is run: {installed.failed}")
    if installed.skipped:
        said.append(f"Set-up was not done: {installed.skipped}")
    if not any(command.kind == "test" for command in lines):
        said.append(f'No test command was found. Name one in {NAME}: [checks] test = "…"')
    said += [
        f"`{check.command.command}` is red and {why}, so I cannot tell new failures from old ones: "
        "every task stops here"
        for check in baseline
        if check.verdict == "red" and (why := stuck(check))
    ]
    said += [
        f"`{check.command.command}` cannot run here: {check.reason}."
        for check in baseline
        if check.verdict == "not run" and not installed.failed
    ]
    return said


def text(trial: Trial) -> str:
    """The end of what is printed: what a task would see, and what it would miss."""
    head = f"{trial.repository.name}, {trial.repository.base} at {trial.commit[:7]}"
    lines = [head, f"  {NAME}: {'read' if trial.project is not None else 'none; everything is found by itself'}"]
    lines += [f"  {note}" for note in trial.notes]
    verdicts = {check.command.command: check for check in trial.baseline}
    for command in trial.commands:
        check = verdicts.get(command.command)
        lines.append(f"  {command.kind:<6} {command.command}   ({command.found_in}){_verdict(check)}")
    lines += (
        ["", "Missing:", *(f"  - {item}" for item in trial.missing)] if trial.missing else ["", "Nothing is missing."]
    )
    return "\n".join(lines)


def _verdict(check: CheckResult | None) -> str:
    if check is None:
        return ""
    tests = f", {check.executed} tests" if check.executed is not None else ""
    failing = f", {len(check.failing)} fail" if check.failing else ""
    names = "".join(f"\n           - {name}" for name in check.failing[:10])
    took = f", {duration(check.outcome.seconds)}" if check.outcome else ""
    reason = f": {check.reason}" if check.reason and check.verdict != "green" else ""
    return f"\n         {check.verdict}{tests}{failing}{took}{reason}{names}"
