"""Which tests a step touched, and the command that runs only those.

A step of a long suite runs these; the whole suite runs before anything is published. So what is missed here costs a
late surprise and nothing else, and what the checkout says of itself may be believed, within bounds of size and time.
"""

from __future__ import annotations

import json
import posixpath
import re
import shlex
import time
from collections.abc import Iterable, Iterator, Sequence

from graph.crates import narrowed_cargo
from graph.errors import BadInput
from graph.importing import Imports, ending, go_package
from graph.narrowing import narrowed
from graph.ports import Box
from graph.project import STEP_WORD
from graph.runners import runner_of
from graph.surveying import PYTHON, SCRIPT, Survey, survey
from graph.tomlplaces import NAME
from graph.values import Command

MOST_TESTS = 200
"""More test files than these are the whole suite, as good as."""
SECONDS = 20.0
"""For all of it. What has been found by then counts."""
_LONGEST = 30_000
"""Characters of a command line. In the longest encoding they fit the 128 KiB that a shell can be handed."""

_FAMILIES = {**dict.fromkeys(PYTHON, "python"), **dict.fromkeys(SCRIPT, "script"), "go": "go", "rs": "rust"}
_WIDE = re.compile(
    r"pyproject\.toml|setup\.(?:py|cfg)|tox\.ini|\.?pytest\.ini|[\w-]*(?:requirements|constraints)[\w-]*\.(?:txt|in)"
    r"|package\.json|[jt]sconfig[\w.-]*\.json|\.babelrc(?:\.\w+)?|go\.(?:mod|sum|work)|rust-toolchain(?:\.toml)?"
    r"|[\w-]+\.lock|(?:pnpm|package)-lock\.\w+|pnpm-workspace\.yaml|npm-shrinkwrap\.json"
    r"|(?:[\w-]+\.config|(?:jest|vitest)[.-](?:setup|workspace)|setupTests)\.[cm]?[jt]sx?"
)
"""Names of files that every test depends on."""
_PYTHON_TEST = re.compile(r"test_(.+)|(.+)_test", re.DOTALL)
_SCRIPT_TEST = re.compile(r"(.+)[.](?:test|spec)|(.+)[-_](?:test|spec)|test-(.+)", re.DOTALL)
_HELPER = re.compile(r"helper|util|setup|fixture|mock|common|index", re.IGNORECASE)
# Between quotes, how many shells will read a name nobody knows: such signs may mean something to one of them.
_UNSAFE = re.compile(r"""[$`\\'"\n\r]""")
_FOLDER_NAMED = ("__init__", "index", "mod")
_FIXTURES = ("fixtures", "__fixtures__", "__mocks__", "testdata")


def step_command(box: Box, command: Command, test_step: str, changed: Sequence[str]) -> Command | None:
    """The command that tests a step. `changed`: paths that differ from the commit before it, deleted ones included.

    `test_step` is the repository's own template, or empty. None when nothing narrower than `command` is known: the
    runner is not, no test or a file that all tests depend on was touched, or as many tests as make the whole suite.
    Raises Stopped, SandboxFailed.
    """
    until = time.monotonic() + SECONDS
    line = _own(box, test_step, changed, until) if test_step else _narrowed(box, command, changed, until)
    if not line or len(line) > _LONGEST or not _is_text(line):
        return None
    where = NAME if test_step else f"{command.found_in}, narrowed to what changed"
    runner = runner_of(line) if test_step else command.runner
    return command.model_copy(update={"command": line, "found_in": where, "runner": runner, "partial": True})


def _is_text(line: str) -> bool:
    """A name that is no UTF-8 could be run, but not kept in the task's record."""
    return not any("\ud800" <= char <= "\udfff" for char in line)


def touched_tests(box: Box, changed: Sequence[str]) -> list[str]:
    """Test files of the checkout that belong to these files, by being one of them, by name and by import; sorted."""
    return _touched(survey(box, changed), changed, time.monotonic() + SECONDS)


def _own(box: Box, template: str, changed: Sequence[str], until: float) -> str | None:
    words = {found[1] for found in STEP_WORD.finditer(template)}
    if not words:
        return template
    seen = survey(box, changed)
    tests = _touched(seen, changed, until) if "tests" in words and not _is_wide(changed) else []
    return filled(template, seen.present, tests if len(tests) <= MOST_TESTS else ())


def _narrowed(box: Box, command: Command, changed: Sequence[str], until: float) -> str | None:
    if not command.runner or _is_wide(changed):
        return None
    seen = survey(box, changed)
    if command.runner == "cargo":
        return narrowed_cargo(command.command, changed, seen)
    tests = _touched(seen, changed, until)
    if not tests or len(tests) > MOST_TESTS:
        return None
    return narrowed(command.command, command.runner, tests, seen, _scripts(box))


def _scripts(box: Box) -> dict[str, str]:
    try:
        scripts = json.loads(box.read("package.json", limit=400_000))["scripts"]
    except (BadInput, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return {name: text for name, text in scripts.items() if isinstance(text, str)} if isinstance(scripts, dict) else {}


def _is_wide(changed: Iterable[str]) -> bool:
    return any(_WIDE.fullmatch(posixpath.basename(path)) for path in changed)


# The template


def filled(template: str, files: Sequence[str], tests: Sequence[str]) -> str | None:
    """The template with its words filled in; None when there is nothing to fill in for one of them.

    Names stay words of their own. Between quotes they are text for a second shell, as in `sh -c 'pytest {tests}'`;
    names that a shell could read otherwise there are not filled in.
    Where only a shell could say what quotes mean (a substitution between quotes, a here-document), it is None too.
    """
    quotes, at, parts = _quotes(template), 0, []
    unclear = {quote: _first_unclear(template, quotes, within=quote == '"') for quote in ("", "'", '"')}
    for found in STEP_WORD.finditer(template):
        parts.append(template[at : found.start()])
        quote, at = quotes[found.start()], found.end()
        if quote == "#":
            # A name with a line break in it would end the comment.
            parts.append(found[0])
            continue
        names = files if found[1] == "files" else tests
        if not names or unclear[quote] < found.start() or (quote and any(map(_UNSAFE.search, names))):
            return None
        parts.append(_inside(quote, " ".join(shlex.quote(_dashed(name)) for name in names)))
    return "".join([*parts, template[at:]])


def _dashed(name: str) -> str:
    return f"./{name}" if name.startswith("-") else name


def _inside(quote: str, text: str) -> str:
    if quote == "'":
        return text.replace("'", "'\\''")
    return re.sub(r'(["$`\\])', r"\\\1", text) if quote else text


def _first_unclear(template: str, quotes: Sequence[str], *, within: bool) -> int:
    """From where on quotes cannot be told; `within`: between double quotes, where a substitution has its own."""
    for found in re.finditer(r"`|<<|\$['(]", template):
        quote, sign = quotes[found.start()], found[0]
        if (sign == "`" and quote in ("", '"')) or (sign in ("<<", "$'") and not quote):
            return found.start()
        if sign == "$(" and within and quote == '"':
            return found.start()
    return len(template)


def _quotes(text: str) -> list[str]:
    """At each place the quote that is open there: `#` inside a comment, empty outside of all."""
    quote, states, escaped = "", [], False
    for at, char in enumerate(text):
        states.append(quote)
        if escaped:
            escaped = False
        elif quote == "#":
            quote = "" if char == "\n" else quote
        elif char == "\\" and quote != "'":
            escaped = True
        elif quote:
            quote = "" if char == quote else quote
        elif char in "'\"" or (char == "#" and (at == 0 or text[at - 1] in " \t\n;|&()")):
            quote = char
    return states


# The tests


def _touched(seen: Survey, changed: Sequence[str], until: float) -> list[str]:
    tests = {path: subject for path in seen.files if (subject := _subject(path)) is not None}
    imports = Imports(seen, changed, until)
    reached = imports.reached(changed)
    found = reached & tests.keys()
    found.update(path for path in tests if path.endswith("_test.go") and _in_package(path, reached))
    found.update(_by_name(tests, changed))
    folders = {folder for path in changed for folder in _governed(path)} | _helped(imports, changed)
    found.update(path for path in tests if not folders.isdisjoint(_above(path)))
    return sorted(found)


def _subject(path: str) -> str | None:
    """What a test file is about, as far as its name says; None for what is no test."""
    folder, name = posixpath.split(path)
    stem = name.rpartition(".")[0]
    match _FAMILIES.get(ending(path)):
        case "python" if name.endswith(".py"):
            if stem == "tests":
                return posixpath.basename(folder)
            named = _PYTHON_TEST.fullmatch(stem)
            return (named[1] or named[2]) if named else None
        case "script":
            if named := _SCRIPT_TEST.fullmatch(stem):
                return named[1] or named[2] or named[3]
            folders = folder.split("/")
            mocha = (
                "test" in folders and not _HELPER.search(path.rpartition("/test/")[2]) and not name.endswith(".d.ts")
            )
            return stem if "__tests__" in folders or mocha else None
        case "go":
            return "" if name.endswith("_test.go") else None
        case "rust":
            return stem if posixpath.basename(folder) == "tests" else None
    return None


def _by_name(tests: dict[str, str], changed: Sequence[str]) -> Iterator[str]:
    stems: dict[str, set[str]] = {}
    for path in changed:
        folder, name = posixpath.split(path)
        stem = name.rpartition(".")[0] or name
        stem = posixpath.basename(folder) if stem in _FOLDER_NAMED else stem
        stems.setdefault(_FAMILIES.get(ending(path), ""), set()).add(stem)
    for test, subject in tests.items():
        family = _FAMILIES[ending(test)]
        wanted = stems.get(family, set()) | stems.get("", set())
        if subject and (subject in wanted or (family == "python" and _longer(subject, wanted))):
            yield test


def _longer(subject: str, stems: set[str]) -> bool:
    """`test_rates_hostile.py` is about rates too; a short stem begins too many other words."""
    return any(subject[:end] in stems and (end > 3 or subject[end] in "_0123456789") for end in range(1, len(subject)))


def _in_package(test: str, reached: set[str]) -> bool:
    return go_package(posixpath.dirname(test)) in reached


def _above(path: str) -> Iterator[str]:
    """The folders that a path is in, each with a slash at its end; empty for the checkout."""
    while path:
        path = path.rpartition("/")[0]
        yield f"{path}/" if path else ""


def _governed(path: str) -> Iterator[str]:
    """Folders, as `_above` gives them, whose tests use the file unasked."""
    folder, name = posixpath.split(path)
    if name in ("conftest.py", "__init__.py", "fixtures.py"):
        yield f"{folder}/" if folder else ""
    parts = folder.split("/")
    for at, part in enumerate(parts):
        if part in _FIXTURES:
            yield "".join(f"{above}/" for above in parts[:at])
            return


def _helped(imports: Imports, changed: Sequence[str]) -> set[str]:
    """Folders of the conftest.py files that import a changed helper of tests.

    Not of those that import the program: most do, and every change would touch every test.
    """
    helpers = [path for path in changed if {"test", "tests"} & set(path.split("/")[:-1])]
    reached = imports.reached(helpers, depth=2)
    return {folder for path in reached if posixpath.basename(path) == "conftest.py" for folder in _governed(path)}
