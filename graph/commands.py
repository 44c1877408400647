"""Finding a repository's own commands: for each kind the first place that has one wins. Looks only through the box."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from typing import Any, Literal

from graph.errors import BadInput
from graph.ports import Box
from graph.project import Checks
from graph.runners import runner_of
from graph.tomlplaces import NAME
from graph.values import Command

Kind = Literal["format", "check", "test"]
Found = Iterator[tuple[Kind, str, str]]

_SCRIPTS: tuple[tuple[Kind, str], ...] = (
    ("format", "format.sh"),
    ("check", "code-checks.sh"),
    ("test", "run-tests.sh"),
)
_TARGETS: dict[Kind, tuple[str, ...]] = {"format": ("format", "fmt"), "check": ("check", "lint"), "test": ("test",)}
_MAKEFILES = ("GNUmakefile", "makefile", "Makefile")
_RUN_SCRIPT = re.compile(r"(?:npm|pnpm|yarn)(?: run)? ([\w:.-]+)")
_RUNNERS = (("pnpm-lock.yaml", "pnpm run"), ("yarn.lock", "yarn run"), ("package.json", "npm run"))
_PYTHON_TESTS = r"""
git ls-files -co --exclude-standard -- 'test_*.py' '*_test.py' '*/test_*.py' '*/*_test.py' | head -n 200
"""
_PYTEST_STYLE = r"""
git grep --untracked -lE '^(import pytest|from pytest|def test_|async def test_)' -- \
  'test_*.py' '*_test.py' '*/test_*.py' '*/*_test.py' '*conftest.py' | head -n 1
"""


def find(box: Box, said: Checks | None = None) -> list[Command]:
    """Formats, checks and tests, in this order. Empty when the repository has none.

    `said`: what the repository's own file says. A kind that it says anything about is not looked for.
    """
    said = said or Checks()
    best: dict[Kind, Command] = {}
    for place in (_scripts, _makefile, _python, _package_json, _cargo, _go):
        for kind, command, where in place(box):
            best.setdefault(kind, Command(kind=kind, command=command, found_in=where))
    given: dict[Kind, tuple[str | None, ...]] = {
        "format": (said.format,),
        "check": (said.lint, said.types),
        "test": (said.test,),
    }
    found: list[Command] = []
    for kind, lines in given.items():
        if all(line is None for line in lines):
            found += [best[kind]] if kind in best else []
        else:
            found += [Command(kind=kind, command=line, found_in=NAME) for line in lines if line]
    scripts = _package_scripts(box) if any(_RUN_SCRIPT.match(command.command) for command in found) else {}
    return [_with_runner(command, scripts) for command in found]


def _with_runner(command: Command, scripts: dict[str, Any]) -> Command:
    if command.kind != "test":
        return command
    script = _RUN_SCRIPT.match(command.command)
    text = scripts.get(script[1], "") if script else ""
    return command.model_copy(update={"runner": runner_of(command.command, text if isinstance(text, str) else "")})


def _text(box: Box, path: str) -> str | None:
    try:
        return box.read(path, limit=400_000).decode("utf-8", "replace")
    except BadInput:
        return None


def _scripts(box: Box) -> Found:
    for folder in ("src/scripts", "scripts"):
        for kind, name in _SCRIPTS:
            if _text(box, f"{folder}/{name}") is not None:
                yield kind, f"bash {folder}/{name}", f"{folder}/{name}"


def _makefile(box: Box) -> Found:
    for name in _MAKEFILES:
        text = _text(box, name)
        if text is None:
            continue
        targets = {
            target
            for line in re.findall(r"^([A-Za-z0-9_.\- ]+?)\s*::?(?!=)", text, re.MULTILINE)
            for target in line.split()
        }
        for kind, names in _TARGETS.items():
            target = next((one for one in names if one in targets), None)
            if target:
                yield kind, f"make {target}", name
        return


def _python(box: Box) -> Found:
    """pytest where it is configured, asked for or its style is used; else unittest where there are test files."""
    text = _text(box, "pyproject.toml")
    tests = box.run(_PYTHON_TESTS).output.strip()
    if where := _pytest_named(box, text):
        yield "test", "python3 -m pytest -q", where
    elif tests and box.run(_PYTEST_STYLE).output.strip():
        yield "test", "python3 -m pytest -q", _folder_of(tests)
    elif tests:
        yield "test", _unittest(box, tests), _folder_of(tests)


def _pytest_named(box: Box, pyproject: str | None) -> str:
    """The file that configures or requires pytest; empty if there is none."""
    if _text(box, "pytest.ini") is not None:
        return "pytest.ini"
    if pyproject is not None:
        try:
            data: dict[str, Any] = tomllib.loads(pyproject)
        except tomllib.TOMLDecodeError:
            data = {}
        if "pytest" in data.get("tool", {}) or re.search(r"""["']pytest\b""", pyproject):
            return "pyproject.toml"
    asked: tuple[tuple[str, Callable[[str], object]], ...] = (
        ("setup.cfg", lambda text: "[tool:pytest]" in text),
        ("tox.ini", lambda text: "[pytest]" in text),
        *((f"requirements{end}.txt", _requires_pytest) for end in ("", "-dev", "_dev", "-test")),
    )
    for name, holds in asked:
        text = _text(box, name)
        if text is not None and holds(text):
            return name
    return ""


def _requires_pytest(text: str) -> bool:
    return re.search(r"^pytest\b", text, re.MULTILINE) is not None


def _folder_of(tests: str) -> str:
    folder = tests.splitlines()[0].strip('"').rpartition("/")[0]
    return f"{folder}/" if folder else "the test files"


def _unittest(box: Box, tests: str) -> str:
    """Discovery does not go into a folder that is no package: such a folder of tests is named."""
    paths = [line.strip('"') for line in tests.splitlines()]
    tops = {path.partition("/")[0] if "/" in path else "" for path in paths}
    pattern = "" if any(path.rpartition("/")[2].startswith("test_") for path in paths) else " -p '*_test.py'"
    for folder in ("tests", "test"):
        if tops == {folder} and _text(box, f"{folder}/__init__.py") is None:
            return f"python3 -m unittest discover -s {folder}{pattern}"
    return f"python3 -m unittest discover{pattern}"


def _package_scripts(box: Box) -> dict[str, Any]:
    try:
        scripts = json.loads(_text(box, "package.json") or "{}").get("scripts", {})
    except (ValueError, AttributeError):
        return {}
    return scripts if isinstance(scripts, dict) else {}


def _package_json(box: Box) -> Found:
    scripts = _package_scripts(box)
    if not scripts:
        return
    runner = next(run for name, run in _RUNNERS if _text(box, name) is not None)
    for kind, name in (("format", "format"), ("check", "lint"), ("test", "test")):
        script = scripts.get(name)
        # npm writes this placeholder into every new package.
        if isinstance(script, str) and "no test specified" not in script:
            yield kind, f"{runner} {name}", "package.json"  # type: ignore[misc]


def _cargo(box: Box) -> Found:
    if _text(box, "Cargo.toml") is not None:
        yield "test", "cargo test", "Cargo.toml"


def _go(box: Box) -> Found:
    if _text(box, "go.mod") is not None:
        yield "test", "go test ./...", "go.mod"
