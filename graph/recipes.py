"""How a repository's packages are installed, found by its lock files and manifests. Looks only through the box.

The commands run in a fresh checkout, in a box whose only way out leads to package registries. `$THREADWRIGHT_DEPS` is
where they install to; `$VIRTUAL_ENV` is below it, and what else they make in ignored folders of the checkout
(`node_modules`) is moved there afterwards.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterable
from typing import Any

from graph.errors import BadInput
from graph.ports import Box
from graph.project import Setup
from graph.values import Value

INPUTS = (
    "**/pyproject.toml", "setup.py", "setup.cfg", "uv.lock", "poetry.lock", "pdm.lock", "*requirements*.txt",
    "*requirements*.in", "requirements/**", "*constraints*.txt", ".python-version", "**/package.json",
    "package-lock.json", "npm-shrinkwrap.json", "pnpm-lock.yaml", "pnpm-workspace.yaml", "yarn.lock", ".npmrc",
    ".yarnrc", ".yarnrc.yml", "**/go.mod", "**/go.sum", "go.work", "go.work.sum", "**/Cargo.toml", "Cargo.lock",
    "rust-toolchain*", ".cargo/config.toml",
)  # fmt: skip
"""Files (glob pathspecs) whose content decides whether what was installed before still fits."""

LISTED = "git ls-files -z --cached --others --exclude-standard"
"""What is or could become part of a commit."""

TESTING = ("dev", "develop", "development", "test", "tests", "testing")
"""Names of extras and groups that hold what tests need."""

# What stands behind the # is what people are shown of such a line.
_ENVIRONMENT = '[ -d "$VIRTUAL_ENV" ] || python3 -m venv "$VIRTUAL_ENV"  # python3 -m venv'
_TOOL = (
    '{look} > /dev/null 2>&1 || {{ python3 -m venv "$THREADWRIGHT_DEPS/tools" && '
    '"$THREADWRIGHT_DEPS/tools/bin/python" -m pip install -q {what}; }}  # get {name} where it is missing'
)
_NODE_TOOL = (
    'command -v {name} > /dev/null || npm install --silent --global --prefix "$THREADWRIGHT_DEPS/node" {what}'
    "  # get {what} where {name} is missing"
)
_REQUIREMENTS = (
    "requirements.txt", "requirements-dev.txt", "requirements_dev.txt", "dev-requirements.txt", "requirements-test.txt",
    "requirements_test.txt", "test-requirements.txt", "requirements-tests.txt", "requirements/dev.txt",
    "requirements/test.txt", "requirements/tests.txt",
)  # fmt: skip
_PNPM_OF_LOCK = {"5": "pnpm@7", "6": "pnpm@8", "9": "pnpm@10"}
_VERSIONED = re.compile(r"(pnpm|yarn|npm)@(\d+(?:\.\d+){0,2}[\w.-]*)(?:\+[\w.]+)?")


class Recipe(Value):
    """What to run for a set-up. `found_in`: where that was found, for people."""

    found_in: str
    commands: tuple[str, ...]
    refresh: tuple[str, ...] = ()
    """The same after a manifest was changed: lock files are brought up to date."""
    locks: tuple[str, ...] = ()
    """Lock files that `refresh` may write."""
    own: bool = False
    """The repository's own commands, from its `.threadwright.toml`; they may need no network."""


class Root(Value):
    """What the root of a checkout says, read once."""

    texts: dict[str, str]
    names: frozenset[str]

    def has(self, *names: str) -> bool:
        return any(name in self.names for name in names)

    def toml(self, name: str) -> dict[str, Any]:
        try:
            return tomllib.loads(self.texts.get(name, ""))
        except (tomllib.TOMLDecodeError, RecursionError):
            return {}

    def package(self) -> dict[str, Any]:
        try:
            found = json.loads(self.texts.get("package.json") or "{}")
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


_READ = (
    "pyproject.toml",
    "setup.cfg",
    "package.json",
    "go.mod",
    "Cargo.toml",
    "Cargo.lock",
    "pnpm-lock.yaml",
    "yarn.lock",
)


def survey(box: Box) -> Root:
    # Also a manifest that a task has just written.
    outcome = box.run(f"{LISTED} -- ':(glob)*' ':(glob)requirements/*' | tr '\\0' '\\n'")
    names = frozenset(outcome.output.split("\n"))
    return Root(texts={name: _text(box, name) for name in _READ if name in names}, names=names)


def _text(box: Box, name: str) -> str:
    try:
        return box.read(name, limit=200_000).decode("utf-8", "replace")
    except BadInput:
        return ""


def find(box: Box, setup: Setup, *, pytest: bool) -> Recipe | None:
    """None when nothing is to be installed. `pytest`: the tests want it, whether or not a manifest names it."""
    if setup.commands is not None:
        return _own(setup.commands)
    root = survey(box)
    places: tuple[Callable[[], Recipe | None], ...] = (
        lambda: _python(box, root, pytest=pytest),
        lambda: _node(root),
        lambda: _go(root),
        lambda: _cargo(root),
    )
    parts = [part for part in (place() for place in places) if part is not None]
    if not parts:
        return None
    return Recipe(
        found_in=", ".join(part.found_in for part in parts),
        commands=tuple(command for part in parts for command in part.commands),
        refresh=tuple(command for part in parts for command in part.refresh or part.commands),
        locks=tuple(lock for part in parts for lock in part.locks),
    )


def _own(commands: tuple[str, ...]) -> Recipe | None:
    if not commands:
        return None
    python = any(re.search(r"\b(pip3?|python3?)\b", command) for command in commands)
    return Recipe(
        found_in=".threadwright.toml", commands=((_ENVIRONMENT,) if python else ()) + commands, own=True
    )  # fmt: skip


# Python


def _python(box: Box, root: Root, *, pytest: bool) -> Recipe | None:
    data = root.toml("pyproject.toml")
    extras = _testing(_table(data, "project", "optional-dependencies"))
    groups = _testing(_table(data, "dependency-groups"))
    if root.has("uv.lock"):
        return _uv(extras, groups, pytest=pytest)
    if root.has("poetry.lock"):
        return _poetry(_head(box, "poetry.lock"), data, pytest=pytest)
    if root.has("pdm.lock"):
        return _pdm(_head(box, "pdm.lock"), (*groups, *extras), pytest=pytest)
    return _pip(box, root, data, extras, groups, pytest=pytest)


def _table(data: dict[str, Any], *keys: str) -> dict[str, Any]:
    found: Any = data
    for key in keys:
        found = found.get(key, {}) if isinstance(found, dict) else {}
    return found if isinstance(found, dict) else {}


def _testing(names: Iterable[str]) -> list[str]:
    # They become words of a shell command.
    return [name for name in names if name.lower() in TESTING]


def _uv(extras: list[str], groups: list[str], *, pytest: bool) -> Recipe:
    options = "".join(f" --extra {name}" for name in extras) + "".join(f" --group {name}" for name in groups)
    tool = _tool("uv")
    after = (_missing("pytest", "uv pip install"),) if pytest else ()
    return Recipe(
        found_in="uv.lock",
        commands=(tool, f"uv sync --frozen{options}", *after),
        refresh=(tool, f"uv sync{options}", *after),
        locks=("uv.lock",),
    )


def _tool(name: str, what: str = "", look: str = "") -> str:
    return _TOOL.format(name=name, what=what or name, look=look or f"command -v {name}")


def _head(box: Box, lock: str) -> str:
    """Where both tools say how they made it. The whole of it may be large."""
    return box.run(f"head -n 20 {lock}").output


def _poetry(head: str, data: dict[str, Any], *, pytest: bool) -> Recipe:
    made_by = re.search(r"generated by Poetry (\d+)\.", head)
    # Poetry 2 fails where 1 only warned (a project that is no package), and writes another format. Before 1.4 a lock
    # did not say a version.
    old = made_by is None or int(made_by[1]) < 2
    name, what = ("poetry 1", "'poetry>=1.8,<2'") if old else ("poetry 2", "'poetry>=2,<3'")
    groups = _testing(_table(data, "tool", "poetry", "group"))
    options = f" --with {','.join(groups)}" if groups else ""
    options += "".join(f" --extras {extra}" for extra in _poetry_extras(data, old=old))
    install = f"poetry install --no-interaction{options}"
    return _managed(
        _tool(name, what, f"poetry --version 2> /dev/null | grep 'version {name[-1]}[.]'"),
        "poetry.lock",
        # Whoever has no package says --no-root at each call, and no file tells. By then the rest is installed.
        install if old else f"{install} || {install} --no-root  # {install}",
        # 2 has no such option: not to update is what it does.
        f"poetry lock --no-interaction{' --no-update' if old else ''}",
        pytest=pytest,
    )


def _poetry_extras(data: dict[str, Any], *, old: bool) -> list[str]:
    """An extra that poetry does not see is an error, and 1 does not look at [project]."""
    project = _table(data, "project")
    if not old and ("dependencies" in project or "optional-dependencies" in project):
        return _testing(_table(project, "optional-dependencies"))
    return _testing(_table(data, "tool", "poetry", "extras"))


def _pdm(head: str, wanted: Iterable[str], *, pytest: bool) -> Recipe:
    # Without a word pdm installs all that is locked, and a group that is not locked is an error. Before 2.8 a lock did
    # not say its groups.
    said = re.search(r"^groups = ", head, re.MULTILINE)
    options = "" if said else "".join(f" --group {name}" for name in wanted)
    return _managed(
        # pdm sets no upper bounds, and a release of what it is made of has broken it; `locked` is what it was tested
        # with.
        _tool("pdm", "'pdm[locked]>=2.12,<3'"),
        "pdm.lock",
        f"pdm install --frozen-lockfile{options}",
        "pdm lock --update-reuse",
        pytest=pytest,
    )


def _managed(tool: str, lock: str, install: str, update: str, *, pytest: bool) -> Recipe:
    begin = (tool, _ENVIRONMENT)
    end = (install, _missing("pytest", "python -m pip install")) if pytest else (install,)
    return Recipe(found_in=lock, commands=(*begin, *end), refresh=(*begin, update, *end), locks=(lock,))


def _missing(package: str, install: str) -> str:
    line = f'"$VIRTUAL_ENV/bin/python" -c "import {package}" 2> /dev/null || {install} {package}'
    return f"{line}  # get {package} where it is missing"


def _pip(
    box: Box, root: Root, data: dict[str, Any], extras: list[str], groups: list[str], *, pytest: bool
) -> Recipe | None:
    files = [name for name in _REQUIREMENTS if root.has(name)]
    itself = _is_package(root, data, extras)
    absent = pytest and box.run("python3 -c 'import pytest'").exit != 0
    if not (files or itself or groups or absent):
        return None
    commands = [_ENVIRONMENT]
    if groups:
        # --group came with pip 25.1.
        commands.append("python -m pip install -q --upgrade 'pip>=25.1'")
    what = [f"-r {name}" for name in files] + [f"--group {name}" for name in groups]
    if itself:
        what.append(f"-e '.[{','.join(extras)}]'" if extras else "-e .")
    if what:
        commands.append(f"python -m pip install {' '.join(what)}")
    if pytest:
        commands.append(_missing("pytest", "python -m pip install"))
    where = [*files, *(name for name in ("pyproject.toml", "setup.py", "setup.cfg") if root.has(name))][:2]
    return Recipe(found_in=", ".join(where) or "the tests, which want pytest", commands=tuple(commands))


def _is_package(root: Root, data: dict[str, Any], extras: list[str]) -> bool:
    """Whether tests may need the project itself to be installed, or what it depends on."""
    project = _table(data, "project")
    dynamic = project.get("dynamic")
    if project.get("dependencies") or extras or (isinstance(dynamic, list) and "dependencies" in dynamic):
        return True
    if "build-system" in data and ("project" in data or _table(data, "tool", "poetry") or root.has("setup.py")):
        return True
    return root.has("setup.py") or "install_requires" in root.texts.get("setup.cfg", "")


# JavaScript


def _node(root: Root) -> Recipe | None:
    if not root.has("package.json"):
        return None
    package = root.package()
    wanted = any(package.get(key) for key in ("dependencies", "devDependencies", "optionalDependencies", "workspaces"))
    named = _VERSIONED.fullmatch(str(package.get("packageManager", "")))
    exact = f"{named[1]}@{named[2]}" if named else ""
    if root.has("pnpm-lock.yaml"):
        found = re.match(r"lockfileVersion: '?(\d+)", root.texts.get("pnpm-lock.yaml", ""))
        what = exact or _PNPM_OF_LOCK.get(found[1] if found else "", "pnpm@10")
        tool = _NODE_TOOL.format(name="pnpm", what=what)
        return _locked("pnpm-lock.yaml", tool, "pnpm install --frozen-lockfile", "pnpm install --no-frozen-lockfile")
    if root.has("yarn.lock"):
        return _yarn(root, exact)
    for lock in ("npm-shrinkwrap.json", "package-lock.json"):
        if root.has(lock):
            return _locked(lock, "", "npm ci", "npm install")
    if not wanted:
        return None
    return Recipe(found_in="package.json", commands=("npm install --no-package-lock",))


def _yarn(root: Root, exact: str) -> Recipe:
    if root.has(".yarnrc.yml") or "__metadata:" in root.texts.get("yarn.lock", "") or re.match(r"yarn@[2-9]", exact):
        version = exact.partition("@")[2] if exact else "4"
        tool = _NODE_TOOL.format(name="yarn", what=f"@yarnpkg/cli-dist@{version}")
        return _locked("yarn.lock", tool, "yarn install --immutable", "yarn install --no-immutable")
    tool = _NODE_TOOL.format(name="yarn", what="yarn@1")
    install = "yarn install --non-interactive"
    return _locked("yarn.lock", tool, f"{install} --frozen-lockfile", install)


def _locked(lock: str, tool: str, install: str, refresh: str) -> Recipe:
    begin = (tool,) if tool else ()
    return Recipe(found_in=lock, commands=(*begin, install), refresh=(*begin, refresh), locks=(lock,))


# Go and Rust


def _go(root: Root) -> Recipe | None:
    if not re.search(r"^\s*require\b", root.texts.get("go.mod", ""), re.MULTILINE):
        return None
    return Recipe(
        found_in="go.mod",
        commands=("go mod download",),
        refresh=("go mod tidy && go mod download",),
        locks=("go.mod", "go.sum"),
    )


def _cargo(root: Root) -> Recipe | None:
    needs = re.search(r"^\[.*dependencies\b", root.texts.get("Cargo.toml", ""), re.MULTILINE)
    if not (needs or re.search(r"^source = ", root.texts.get("Cargo.lock", ""), re.MULTILINE)):
        return None
    locked = " --locked" if root.has("Cargo.lock") else ""
    return Recipe(
        found_in="Cargo.toml", commands=(f"cargo fetch{locked}",), refresh=("cargo fetch",), locks=("Cargo.lock",)
    )
