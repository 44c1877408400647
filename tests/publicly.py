"""Set-up phases for which the public registries are one of ours on loopback: real door, real sandbox, real tools."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from boxes import PATH, UID, make_mirror, make_sandbox, make_workspace
from doorstubs import LOOPBACK, Answer, Names, Registry

from graph import recipes
from graph.ports import Workspace
from graph.project import Setup
from graph.values import Repository
from integrations import doorwire, installs
from integrations.door import Door
from integrations.doorrules import REGISTRIES, DoorRules, Host
from integrations.installs import InstallFolders, Policy

HOSTS = tuple(Host(host.name, networks=LOOPBACK) for host in REGISTRIES)


@contextmanager
def registries(answers: Mapping[str, Answer]) -> Iterator[Registry]:
    """One registry behind all the names that tools ask by themselves; what it serves is told by path alone."""
    made = Registry(answers)
    dial = doorwire._connect

    def connect(host: Host, addresses: list[str], sockets: doorwire.Sockets) -> Any:
        # Port 443 may not be ours to listen at.
        return dial(Host(host.name, made.port, host.scheme, host.networks), addresses, sockets)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(installs, "Door", functools.partial(Door, resolve=Names(), tls=made.trust))
        patch.setattr(doorwire, "_connect", connect)
        yield made
    made.close()
    assert made.complaints == []


class Checkout:
    """A repository, what set-up makes of it, and what was asked for meanwhile. `path`: further folders of the PATH."""

    def __init__(self, folder: Path, files: Mapping[str, str], path: str = "") -> None:
        folder.mkdir()
        for place in (folder, *folder.parents[:3]):
            if place.stat().st_uid == os.geteuid():
                place.chmod(place.stat().st_mode | 0o055)
        self._folder = folder
        self._mirror, self._commit = make_mirror(folder, {name: text.encode() for name, text in files.items()})
        self._sandbox = make_sandbox(folder, search_path=f"{path}:{PATH}" if path else PATH)
        uid = UID if os.geteuid() == 0 else None
        self._installs = InstallFolders(folder / "home", self._sandbox, Policy(rules=DoorRules(HOSTS)), uid)
        self._name = self._installs.digest(Repository(name="acme/x", url="file:///acme/x.git"), "x")
        self._notes: list[dict[str, Any]] = []

    def set_up(self, lock: str, *, refresh: bool = False) -> str:
        """Run the recipe and keep what it installed; gives the lock file. Raises AssertionError with what failed."""
        workspace = make_workspace(self._folder, self._mirror, self._commit)
        with self._installs.phase(workspace, note=self._note, go=True) as phase:
            recipe = recipes.find(phase.box, Setup(), pytest=False)
            assert recipe is not None
            for command in recipe.refresh if refresh else recipe.commands:
                outcome = phase.box.run(command)
                assert outcome.exit == 0, f"{command}\n{outcome.output}\n{phase.refused()}"
            text = phase.box.read(lock).decode()
            phase.keep(self._name)
        return text

    def run(self, command: str) -> str:
        """What it prints in a later box, which has no network and cannot change what is installed."""
        root = self._folder / "work" / "tw-1"
        root.parent.mkdir()
        root.parent.chmod(0o711)
        deps = self._installs.place(self._name)
        box = self._sandbox.open(Workspace("tw-1", root, self._mirror, self._commit, deps=deps))
        try:
            outcome = box.run(command)
            assert outcome.exit == 0, outcome.output
            return outcome.output
        finally:
            box.close()
            self._installs.close()

    def _note(self, kind: str, **fields: Any) -> None:
        self._notes.append(fields)

    def fetched(self) -> set[str]:
        """Host and path of what was asked for and given."""
        return {f"{note['host']}{note['path']}" for note in self._notes if note["status"] == 200}
