"""`cargo test` for the changed members of a workspace, and for those that depend on them. Pure."""

from __future__ import annotations

import fnmatch
import posixpath
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from graph.errors import BadInput
from graph.importing import DEPTH
from graph.runners import plain, runner_of
from graph.surveying import Survey
from graph.tomlplaces import bounded

_MOST = 500
"""Crates of a workspace that is looked at."""
_NAME = re.compile(r"[A-Za-z0-9_][\w-]*", re.ASCII)


@dataclass(frozen=True)
class _Crate:
    name: str
    uses: frozenset[str]


def narrowed_cargo(line: str, changed: Sequence[str], survey: Survey) -> str | None:
    """The command line for the changed crates; None when it is no workspace, or something of all crates changed."""
    if (
        not plain(line)
        or runner_of(line) != "cargo"
        or re.search(r"\s(?:-p|--package|--manifest-path|--exclude)", line)
    ):
        return None
    root = _toml(survey, "Cargo.toml")
    everything = re.search(r"\s--(?:workspace|all)(?=\s|$)", line) is not None
    crates = _members(root, survey, everything=everything)
    names = _touched(crates, changed)
    if not names:
        return None
    line = re.sub(r"\s--(?:workspace|all)(?=\s|$)", "", line)
    wanted = "".join(f" -p {name}" for name in names)
    return re.sub(r"(\bcargo\s(?:.*?\s)??(?:test|t))(?=\s|$)", rf"\1{wanted}", line, count=1)


def _toml(survey: Survey, path: str) -> dict[str, Any]:
    text = survey.text(path)
    try:
        # tomllib takes time out of proportion for what is made to cost it.
        bounded(text)
        return tomllib.loads(text)
    except (BadInput, tomllib.TOMLDecodeError):
        return {}


def _table(data: Any, *keys: str) -> dict[str, Any]:
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data if isinstance(data, dict) else {}


def _members(root: dict[str, Any], survey: Survey, *, everything: bool) -> dict[str, _Crate]:
    """The crates that the whole suite tests, by folder."""
    workspace = _table(root, "workspace")
    globs, but = _texts(workspace.get("members")), _texts(workspace.get("exclude"))
    found = {}
    for path in sorted(path for path in survey.files if posixpath.basename(path) == "Cargo.toml")[:_MOST]:
        folder = posixpath.dirname(path)
        if (folder and not _matches(folder, globs)) or folder in but:
            continue
        crate = _crate(_toml(survey, path))
        if workspace and crate is not None:
            found[folder] = crate
    if everything:
        return found
    default = _texts(workspace.get("default-members")) or ([""] if "" in found else globs)
    return {folder: crate for folder, crate in found.items() if folder in default or _matches(folder, default)}


def _texts(value: Any) -> list[str]:
    items = value if isinstance(value, list) else []
    return [item.rstrip("/").removeprefix("./") for item in items if isinstance(item, str)]


def _matches(folder: str, globs: Sequence[str]) -> bool:
    return any(glob.count("/") == folder.count("/") and fnmatch.fnmatchcase(folder, glob) for glob in globs)


def _crate(manifest: dict[str, Any]) -> _Crate | None:
    name = _table(manifest, "package").get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return None
    return _Crate(name, frozenset(_uses(manifest)))


def _uses(manifest: dict[str, Any]) -> Iterator[str]:
    tables = [manifest, *_table(manifest, "target").values()]
    for table in tables:
        for kind in ("dependencies", "dev-dependencies", "build-dependencies"):
            for key, value in _table(table, kind).items():
                # One of a registry may have a member's name, and is another.
                if isinstance(value, dict) and ("path" in value or value.get("workspace") is True):
                    yield str(value.get("package", key))


def _touched(crates: dict[str, _Crate], changed: Sequence[str]) -> list[str]:
    if "Cargo.toml" in changed:
        # What members inherit is in it.
        return []
    names = set()
    for path in changed:
        folder = posixpath.dirname(path)
        while folder and folder not in crates:
            folder = posixpath.dirname(folder)
        if folder in crates:
            names.add(crates[folder].name)
        elif path.endswith(".rs") or posixpath.basename(path) == "Cargo.toml":
            return []
    for _ in range(DEPTH):
        names |= {crate.name for crate in crates.values() if crate.uses & names}
    return sorted(names)
