"""Which files import which, told from single lines. Pure.

Nothing is parsed: files in the middle of a change, and files of other versions of a language, tell enough. Too many
edges cost a few tests more; the whole suite makes good for too few.
"""

from __future__ import annotations

import posixpath
import re
import time
from collections.abc import Iterable, Iterator, Sequence

from graph.surveying import PYTHON, SCRIPT, Survey

DEPTH = 3
"""A test that imports what imports what imports the changed file is the last that is found."""

_FROM = re.compile(r"\s*from[ \t]+(\.*)[ \t]*([\w.]*?)[ \t]*\bimport\b(.*)")
_IMPORT = re.compile(r"\s*import[ \t]+(.*)")
_QUOTED = re.compile(r"""["'`](\.{1,2}(?:/[^"'`]*)?|(?:[@~]|src)/[^"'`]+)["'`]""")
_GO_IMPORT = re.compile(r"""\s*(?:import\s+)?(?:[\w.]+\s+)?["`]([^"`\s]+)["`]""")
_GO_MODULE = re.compile(r'^module\s+"?([^\s"]+)', re.MULTILINE)
_ROOTS = frozenset({"src", "lib", "python"})
_GAP = 3
"""Lines without names, such as comments, inside an import in parentheses."""
_DEEPEST = 40
"""Parts of a path or of a module's name. Deeper ones are made to cost time."""

Names = dict[str, list[str]]
Lines = Sequence[tuple[int, str]]


def ending(path: str) -> str:
    return path.rpartition("/")[2].rpartition(".")[2].lower()


def go_package(folder: str) -> str:
    """How a package of Go stands among files: what imports one imports all of its files."""
    return f"{folder}/"


class Imports:
    """`changed` files may be gone: what imports them still is found all the same.

    Lines that have not been looked at at the time `until` (monotonic) are left out.
    """

    def __init__(self, survey: Survey, changed: Iterable[str], until: float = float("inf")) -> None:
        self._until = until
        self._by: dict[str, set[str]] = {}
        self._inside: dict[str, set[str]] = {}
        files = sorted({*survey.files, *changed})
        module = _GO_MODULE.search(survey.text("go.mod"))
        python, script = _python_names(files), _script_names(files)
        for path, lines in survey.lines.items():
            if ending(path) in PYTHON:
                keys = _python_keys(path, lines, python)
                self._add(
                    ((self._by if explicit else self._inside, python.get(key, ())) for key, explicit in keys), path
                )
            elif ending(path) in SCRIPT:
                self._add(((self._by, script.get(key, ())) for key in _script_keys(path, lines)), path)
            elif ending(path) == "go" and module:
                self._add(((self._by, (package,)) for package in _go_packages(module[1], lines)), _node(path))

    def reached(self, changed: Iterable[str], depth: int = DEPTH) -> set[str]:
        """`changed`, and what imports it up to `depth`. Of a package of Go, that is `go_package` of its folder."""
        seen = {node for path in changed for node in (path, _node(path))}
        # To import a module runs the packages that it is in. Only a change of those themselves counts: what they
        # import for others would touch everything.
        frontier = seen | {node for path in seen for node in self._inside.get(path, ())}
        for _ in range(depth):
            seen |= frontier
            frontier = {node for path in frontier for node in self._by.get(path, ())} - seen
        return seen | frontier

    def _add(self, edges: Iterable[tuple[dict[str, set[str]], Iterable[str]]], by: str) -> None:
        for where, targets in edges:
            if time.monotonic() > self._until:
                return
            for target in targets:
                if target != by:
                    where.setdefault(target, set()).add(by)


def _node(path: str) -> str:
    is_package = path.endswith(".go") and not path.endswith("_test.go")
    return go_package(posixpath.dirname(path)) if is_package else path


# Python


def _python_names(files: Sequence[str]) -> Names:
    """Every name that a module may be imported by, with slashes for dots."""
    packages = {posixpath.dirname(path) for path in files if path.endswith(("/__init__.py", "/__init__.pyi"))}
    names: Names = {}
    for path in files:
        if ending(path) not in PYTHON or path.count("/") > _DEEPEST:
            continue
        parts = path.rpartition(".")[0].split("/")
        folders = len(parts) - 1
        # The folder above the outermost package is on the path: an installed `src`, or pytest put it there.
        top = folders
        while top and "/".join(parts[:top]) in packages:
            top -= 1
        starts = {0, top, *(at + 1 for at in range(folders) if parts[at] in _ROOTS)}
        end = folders if parts[-1] == "__init__" else len(parts)
        for start in starts:
            if start < end:
                names.setdefault("/".join(parts[start:end]), []).append(path)
    return names


def _python_keys(path: str, lines: Lines, names: Names) -> Iterator[tuple[str, bool]]:
    """Names that the file imports; False for the packages around them."""
    for line in _whole_lines(lines):
        if found := _FROM.match(line):
            yield from _from_keys(path, found[1], found[2], found[3], names)
        elif found := _IMPORT.match(line):
            for part in found[1].split(","):
                key = (part.split() or [""])[0].replace(".", "/")
                if key.count("/") <= _DEEPEST:
                    yield key, True
                    yield from ((around, False) for around in _around(key))


def _from_keys(path: str, dots: str, module: str, imported: str, names: Names) -> Iterator[tuple[str, bool]]:
    base = [part for part in module.split(".") if part]
    if len(base) > _DEEPEST or path.count("/") > _DEEPEST:
        return
    if dots:
        folders = path.split("/")[:-1]
        if len(dots) - 1 > len(folders):
            return
        base = folders[: len(folders) - len(dots) + 1] + base
    package = "/".join(base)
    inner = [f"{package}/{words[0]}".lstrip("/") for part in imported.split(",") if (words := part.split())]
    modules = [key for key in inner if key in names]
    yield from ((key, True) for key in modules)
    # What is no module of its own comes from the package, or by way of it.
    yield package, len(modules) < len(inner) or not inner
    yield from ((around, False) for around in _around(package))


def _around(key: str) -> Iterator[str]:
    while "/" in key:
        key = key.rpartition("/")[0]
        yield key


def _whole_lines(lines: Lines) -> Iterator[str]:
    """Each import as one line, without parentheses and comments; the other lines are left out."""
    whole, last, closing = "", 0, ""
    for number, raw in lines:
        text = raw.partition("#")[0].partition(";")[0].rstrip()
        if re.match(r"\s*(?:from|import)[\s.]", text):
            if whole:
                yield whole
            whole = ""
            closing = ")" if "(" in text else ""
        elif not whole:
            continue
        elif number > last + 1 + _GAP:
            # Lines with a closing parenthesis alone are not among these.
            yield whole
            whole = ""
            continue
        last = number
        whole += f" {re.sub(r'[()]', ' ', text).rstrip(chr(92))}"
        if closing in text if closing else not text.endswith("\\"):
            yield whole
            whole = ""
    if whole:
        yield whole


# JavaScript and TypeScript


def _script_names(files: Sequence[str]) -> Names:
    names: Names = {}
    for path in files:
        if ending(path) not in SCRIPT:
            continue
        bare = path.rpartition(".")[0]
        folder, _, name = bare.rpartition("/")
        for key in {path, bare, folder if name == "index" else bare}:
            names.setdefault(key, []).append(path)
    return names


def _script_keys(path: str, lines: Lines) -> Iterator[str]:
    for _, line in lines:
        for wanted in _QUOTED.findall(line):
            target = wanted.partition("?")[0]
            if target.startswith("."):
                keys = [posixpath.normpath(posixpath.join(posixpath.dirname(path), target))]
            else:
                rest = target.partition("/")[2]
                keys = [f"src/{rest}", rest, f"app/{rest}"]
            for key in keys:
                yield "" if key == "." else key
                # TypeScript names the file that will be: './rates.js' is rates.ts.
                if ending(key) in ("js", "mjs", "cjs", "jsx"):
                    yield key.rpartition(".")[0]


# Go


def _go_packages(module: str, lines: Lines) -> Iterator[str]:
    for _, line in lines:
        found = _GO_IMPORT.match(line)
        if found and (found[1] == module or found[1].startswith(f"{module}/")):
            yield go_package(found[1][len(module) + 1 :])
