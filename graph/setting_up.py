"""The set-up phase: what a repository needs is installed before its checks are run, and kept for later tasks.

Only what the base commit says, before the agent's first step, is kept for others. What the `setup` tool installs after
a manifest was changed stays in its task.
"""

from __future__ import annotations

import re
import time

from langgraph.runtime import Runtime

from graph import recipes
from graph.errors import BadInput
from graph.installing import install
from graph.policies import project_of
from graph.ports import Box, Phase, Ports
from graph.recipes import Recipe
from graph.state import TaskState
from graph.values import Installed, Notice, Usage
from graph.working import (
    OWN,
    Update,
    bare_box,
    installed_of,
    keep,
    open_box,
    repository_of,
    seconds_for_setup,
    spend,
    workspace_of,
)

_PROGRAMS = "python3 uv poetry pdm node npm pnpm yarn go cargo rustc"
# `--version` of npm and yarn takes longer than all else: where they are says as much.
# Hashed inside: of a long output only head and tail come out of the box.
_FACTS = (
    "{{\n"
    f"{recipes.LISTED}"
    " -- {patterns} | sort -z -u | xargs -0 -r sha256sum --\n"
    "uname -m\n"
    f'for p in {_PROGRAMS}; do command -v $p > /dev/null && readlink -f "$(command -v $p)"; done\n'
    "python3 -VV; node --version; go version; rustc --version\n"
    "}} 2>&1 | sha256sum"
)
_DIGEST = re.compile(r"[0-9a-f]{64}\s+-")


def setup(state: TaskState, runtime: Runtime[Ports]) -> Update:
    """The node: install what the base commit needs, unless an earlier task has, and say so if that fails."""
    ports = runtime.context
    ports.halt.check()
    began = time.monotonic()
    installed = base_setup(state, ports)
    spent = spend(state, Usage(seconds=time.monotonic() - began))
    notices = [Notice(id="setup", text=failure_words(installed))] if installed.failed else []
    return {"installed": installed, "spent": spent, "notices": notices, "next": "baseline"}


def base_setup(state: TaskState, ports: Ports) -> Installed:
    """What the base commit needs is installed, or was before."""
    project, box = project_of(state), bare_box(state, ports)
    runner = any(command.runner == "pytest" for command in state.get("commands") or [])
    recipe = recipes.find(box, project.setup, pytest=runner)
    facts = _facts(box, recipe, project.setup.inputs)
    # Another image has other tools, also where its commands say the same of themselves. A task that does not know what
    # decides its set-up shares nothing.
    task = state["brief"].id
    # A set-up runs what the commit holds, and a branch may hold what an agent wrote: it shares with that commit alone.
    branch = state["base_sha"] if state["brief"].branch else ""
    key = ports.installs.digest(repository_of(state), f"{project.image}\n{branch}\n{facts or f'only {task}'}")
    name = key if facts else f"{OWN}{task}/0"
    go = "go.mod" in recipes.survey(box).names
    if recipe is None:
        return Installed(key=key, go=go)
    about = Installed(key=key, found_in=recipe.found_in, commands=recipe.commands, go=go)
    if facts and ports.installs.has(key):
        ports.journal.note("setup", found_in=recipe.found_in, reused=True)
        return about.model_copy(update={"name": key, "reused": True})
    if skipped := ports.installs.unavailable(network=not recipe.own):
        ports.journal.note("setup", found_in=recipe.found_in, skipped=skipped)
        return about.model_copy(update={"skipped": skipped})
    return install(ports, workspace_of(state, ports, state["base_sha"]), about, name, seconds_for_setup(state, ports))


def _facts(box: Box, recipe: Recipe | None, inputs: tuple[str, ...]) -> str:
    """All that decides what a set-up gives: contents of manifests, commands, and the tools that run them.

    Empty when it could not be told.
    """
    patterns = " ".join(f"':(glob){pattern}'" for pattern in (*recipes.INPUTS, *map(_pathspec, inputs)))
    outcome = box.run(_FACTS.format(patterns=patterns), timeout=60)
    digest = outcome.output.strip()
    if outcome.ended != "exit" or outcome.exit != 0 or outcome.dropped or not _DIGEST.fullmatch(digest):
        return ""
    return "\n".join([*(recipe.commands if recipe else ()), digest])


def _pathspec(pattern: str) -> str:
    """A gitignore pattern as git's glob pathspec: without a slash it is looked for at any depth."""
    pattern = pattern.replace("'", "'\\''")
    folder = pattern.removesuffix("/")
    return (pattern if "/" in folder else f"**/{folder}") + ("/**" if pattern.endswith("/") else "")


def failure_words(installed: Installed) -> str:
    """For people: what failed, with the end of its log."""
    log = f"\n```\n{installed.log[-1_200:].replace('```', '` ` `').strip()}\n```" if installed.log.strip() else ""
    return f"Set-up failed: {installed.failed.rstrip('.')}. I go on, and the checks are not run.{log}"


# The tool


def again(state: TaskState, ports: Ports) -> tuple[str, Update]:
    """The `setup` tool: the same for the task's own manifests; gives words for the model. The result stays here.

    Lock files that were brought up to date come back into the checkout.
    """
    box = open_box(state, ports)
    project = project_of(state)
    runner = any(command.runner == "pytest" for command in state.get("commands") or [])
    recipe = recipes.find(box, project.setup, pytest=runner)
    if recipe is None:
        return "This repository needs no set-up that I know of.", {}
    if skipped := ports.installs.unavailable(network=not recipe.own):
        return f"Not done: {skipped}", {}
    before = installed_of(state)
    number = 1 + int(before.name.rpartition("/")[2]) if before.name.startswith(OWN) else 1
    name = f"{OWN}{state['brief'].id}/{number}"
    commit = keep(state, ports, box)
    locks: dict[str, bytes] = {}

    def take_locks(phase: Phase) -> None:
        for lock in recipe.locks:
            found = _content(phase.box, lock)
            if found is not None and found != _content(box, lock):
                locks[lock] = found

    # What may be asked, the base decides: a task cannot open a way for itself.
    about = Installed(key=name, found_in=recipe.found_in, commands=recipe.refresh or recipe.commands, go=before.go)
    workspace = workspace_of(state, ports, commit)
    installed = install(ports, workspace, about, name, seconds_for_setup(state, ports), take_locks)
    update: Update = {"spent": spend(state, Usage(seconds=installed.seconds))}
    if installed.failed:
        return f"Set-up failed: {installed.failed}\n{installed.log}", update
    for lock, content in locks.items():
        box.write(lock, content)
    changed = f" Brought up to date: {', '.join(locks)}." if locks else ""
    return f"Installed in {installed.seconds:.0f} s.{changed}", {**update, "installed": installed}


def _content(box: Box, path: str) -> bytes | None:
    try:
        return box.read(path, limit=5_000_000)
    except BadInput:
        return None
