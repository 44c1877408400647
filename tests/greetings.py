"""A small repository that greets, scripts that change it, and ways to look at the host's processes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gitrepos import Files
from rooms import Room, by_role, done, plan, write

from integrations.scriptedmodel import Reply, Script

TEST = (
    "import unittest\nfrom greet import greet\n\n\n"
    "class T(unittest.TestCase):\n    def test_greets(self):\n        self.assertIn('hello', greet())\n"
)
TESTED: Files = {
    "greet.py": "def greet():\n    return 'hello'\n",
    "tests/__init__.py": "",
    "tests/test_greet.py": TEST,
    "pyproject.toml": "[project]\nname = 'greet'\nversion = '1'\n",
}
LOUD = "def greet():\n    return 'hello there'\n"
BROKEN = "def greet():\n    return 'bye'\n"
TITLE = "feat: greet louder"


def louder(*before: Reply, **more: Any) -> Script:
    """Does what `before` says in the first step, makes the greeting louder, and is done."""
    return by_role([plan(TITLE), *before, write("greet.py", LOUD), done()], **more)


def pull_of(room: Room) -> dict[str, Any]:
    """The room's only pull request, as the forge keeps it."""
    [path] = room.pulls()
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def tool_results(room: Room) -> list[str]:
    """What the tools answered, as the newest request of the room's conversation shows it."""
    requests = [r for r in room.house.server.requests if room.marker in str(r.messages)]
    coder = [r for r in requests if "# Role: coder" in str(r.messages[0]["content"])]
    return [str(m["content"]) for m in coder[-1].messages if m["role"] == "tool"]


def alive(marker: str) -> list[int]:
    """Processes of this machine, in whatever namespace, whose command line holds `marker`."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            line = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if marker.encode() in line:
            found.append(int(folder.name))
    return found


def until(true: Callable[[], object], what: str, patience: float = 20.0) -> float:
    """Wait for a condition; gives the seconds that it took."""
    start = time.monotonic()
    while not true():
        assert time.monotonic() - start < patience, f"not {what} within {patience:g} s"
        time.sleep(0.01)
    return time.monotonic() - start
