"""What a checkout's sources say of each other, read inside the box by one command and bounded.

Git does the reading: no program of the checkout is needed for it, and no file of it is opened outside.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from graph.ports import Box

MOST_FILES = 20_000
"""Source files. In a larger repository nobody looks for imports; tests are found by their names still."""
MOST_BYTES = 16_000_000
"""Of names, and of lines. What is beyond is not looked at."""
SECONDS = 15.0
"""For the command. With what is then done with its answer it stays below 20."""

PYTHON = ("py", "pyi")
SCRIPT = ("js", "mjs", "cjs", "jsx", "ts", "mts", "cts", "tsx", "vue", "svelte")
CONFIGURATIONS = ("pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg")
"""Each makes the folder that it is in a root of its own for pytest."""

# git grep -P with LC_ALL=C goes byte by byte; each pattern takes time linear in the line. The second part of the first
# one is the rest of an import in parentheses: names with commas, or one on a line of its own.
_PYTHON_LINES = (
    r"^\s*(?:from|import)[\s.]|^[ \t]+(?!(?:return|raise|pass|break|continue|yield)\b)"
    r"[A-Za-z_\x80-\xff][\w\x80-\xff]*+(?: +as +[\w\x80-\xff]++)?[ \t]*+(?:,[\w, \t\x80-\xff]*+)?[)\\]?[ \t]*(?:#.*)?$"
)
_SCRIPT_LINES = r"""["'`](?:\.{1,2}["'`/]|[@~]/|src/)"""
_GO_LINES = r"""^\s*(?:import\s+)?(?:[\w.]+\s+)?["`][^"`\s]+["`]\s*(?:;|//.*)?$"""
_MANIFESTS = ("Cargo.toml", "go.mod")


@dataclass(frozen=True)
class Survey:
    """Paths are relative to the checkout; `files` holds sources and manifests only."""

    files: frozenset[str] = frozenset()
    present: tuple[str, ...] = ()
    """Those of the changed files that exist."""
    lines: Mapping[str, list[tuple[int, str]]] = field(default_factory=dict)
    """Of each file, with their numbers, those that may import something; of a manifest, all."""

    def text(self, manifest: str) -> str:
        return "\n".join(line for _, line in self.lines.get(manifest, ()))


def survey(box: Box, changed: Sequence[str]) -> Survey:
    """Empty when git did not answer in time. Raises Stopped, SandboxFailed."""
    stdin = "\0".join(changed).encode("utf-8", "surrogateescape")
    outcome = box.run(_command(box.scratch), timeout=SECONDS, stdin=stdin)
    if outcome.ended != "exit" or outcome.exit != 0:
        return Survey()
    gone = set(_names(box, "touching.gone"))
    files = frozenset(path for path in _names(box, "touching.files") if path not in gone and not path.endswith("/"))
    return Survey(files, tuple(_names(box, "touching.present")), _lines(_left(box, "touching.lines"), files))


def _globs(names: Iterable[str]) -> str:
    return " ".join(shlex.quote(glob) for name in names for glob in (name, f"*/{name}"))


def _command(scratch: str) -> str:
    sources = " ".join(f"'*.{end}'" for end in (*PYTHON, *SCRIPT, "go", "rs"))
    grep = "git -c core.fsmonitor=false -c grep.column=false grep --untracked --no-color -I -z -n"
    python, script = (" ".join(f"'*.{end}'" for end in ends) for ends in (PYTHON, SCRIPT))
    return rf"""
export LC_ALL=C GIT_OPTIONAL_LOCKS=0
left={shlex.quote(scratch)}/touching
rm -rf "$left".*
xargs -0 sh -c 'for name do if [ -f "./$name" ] || [ -L "./$name" ]; then printf "%s\0" "$name"; fi; done' sh \
  > "$left.present"
list() {{ git -c core.fsmonitor=false ls-files -z "$@" | head -c {MOST_BYTES}; }}
list -co --exclude-standard -- {sources} {_globs((*_MANIFESTS, *CONFIGURATIONS))} > "$left.files"
list -d > "$left.gone"
if [ "$(tr -cd '\000' < "$left.files" | wc -c)" -le {MOST_FILES} ]; then
  {{
    {grep} -e '' -- {_globs(_MANIFESTS)}
    {grep} -P -e {shlex.quote(_PYTHON_LINES)} -- {python}
    {grep} -P -e {shlex.quote(_SCRIPT_LINES)} -- {script} ':(exclude,glob)**/node_modules/**'
    {grep} -P -e {shlex.quote(_GO_LINES)} -- '*.go'
  }} 2> /dev/null | cut -b -1000 | head -c {MOST_BYTES} > "$left.lines"
fi
true
"""


def _left(box: Box, name: str) -> str:
    return (box.left(name) or b"").decode("utf-8", "surrogateescape")


def _names(box: Box, name: str) -> list[str]:
    # What follows the last NUL was cut off.
    return list(dict.fromkeys(filter(None, _left(box, name).split("\0")[:-1])))


def _lines(text: str, files: frozenset[str]) -> dict[str, list[tuple[int, str]]]:
    """A name with a line break in it can pass a line off as another file's: that one's owner could write it too."""
    found: dict[str, list[tuple[int, str]]] = {}
    for record in text.split("\n"):
        path, _, rest = record.partition("\0")
        # Git puts NUL after the number, an older one a colon.
        if path in files and (line := re.match(r"([0-9]{1,9})[\0:]", rest)):
            found.setdefault(path, []).append((int(line[1]), rest[line.end() :]))
    return found
