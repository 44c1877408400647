"""A suite's command line made one that runs these test files only, runner by runner. Pure.

None where that cannot be said for sure: of a line that is more than one command, that hides its runner in a Makefile
or a script, or whose words could be paths as well as values. Tests that the whole suite would not run are left out.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
import shlex
from collections.abc import Callable, Sequence

from graph.runners import package_script, plain, runner_of
from graph.surveying import CONFIGURATIONS, Survey
from graph.values import Runner

_TAKES = frozenset({
    # pytest
    "-p", "-k", "-m", "-c", "-n", "-o", "-W", "-r", "--rootdir", "--confcutdir", "--ignore", "--ignore-glob", "--ds",
    "--deselect", "--cov", "--cov-report", "--cov-config", "--junitxml", "--junit-xml", "--maxfail", "--durations",
    "--tb", "--color", "--capture", "--log-level", "--log-cli-level", "--timeout", "--dist", "--import-mode",
    "--basetemp", "--numprocesses", "--override-ini", "--reruns",
    # vitest and jest
    "--config", "-t", "--testNamePattern", "--reporter", "--outputFile", "--project", "--pool", "--environment",
    "--mode", "--shard", "--testTimeout", "--maxWorkers", "--retry", "--bail", "-w", "--reporters", "--env",
    "--testEnvironment", "--coverageReporters", "--selectProjects",
    # node
    "--import", "--require", "--loader", "--experimental-loader", "--test-name-pattern", "--test-concurrency",
    "--test-timeout", "--env-file", "-C", "--conditions",
    # go
    "-run", "-skip", "-count", "-tags", "-parallel", "-cpu", "-coverprofile", "-covermode", "-coverpkg", "-bench",
    "-exec", "-mod", "-ldflags", "-gcflags", "-vet", "-timeout", "-shuffle",
})  # fmt: skip
"""Options whose value is the next word."""
_ELSEWHERE = ("--root", "--rootDir", "--roots", "--dir", "--testPathPattern", "--testPathPatterns", "--pyargs", "-args")
_HEADS: dict[Runner, tuple[str, ...]] = {
    "pytest": ("pytest", "py.test"),
    "unittest": ("unittest",),
    "vitest": ("vitest",),
    "jest": ("jest", "jest.js"),
    "node": ("node", "tsx"),
    "go": ("test",),
}
_PACKAGERS = ("npm", "pnpm", "yarn")
_REWRITTEN = re.compile(r"[~\[{\\!]")
"""What a shell would work out, and quotes would keep it from. `plain` has refused the rest."""


def narrowed(
    line: str, runner: Runner, tests: Sequence[str], survey: Survey, scripts: dict[str, str] | None = None
) -> str | None:
    """The command line for these tests; None when none of them is the suite's or nothing is known.

    `scripts`: those of package.json.
    """
    script = package_script(line)
    text = (scripts or {}).get(script, "") if script else ""
    if not plain(line) or runner_of(line, text) != runner or runner not in _HEADS:
        return None
    words = shlex.split(line)
    if script is not None:
        return _of_script(line, words, runner, script, scripts or {}, tests, survey)
    if any(word in _PACKAGERS for word in words):
        # `npm exec` keeps options for itself.
        return None
    head = next((at for at, word in enumerate(words) if posixpath.basename(word) in _HEADS[runner]), len(words))
    before, after = words[: head + 1], words[head + 1 :]
    if runner == "unittest":
        return _unittest(before, after, tests, survey)
    return _direct(line, runner, before, after, tests, survey)


def _of_script(
    line: str,
    words: Sequence[str],
    runner: Runner,
    name: str,
    scripts: dict[str, str],
    tests: Sequence[str],
    survey: Survey,
) -> str | None:
    script = scripts.get(name, "")
    direct = narrowed(script, runner, tests, survey)
    if direct is None:
        return None
    if not direct.startswith(f"{script} "):
        # The script names paths of its own, and arguments would only add to them.
        hooks = {f"pre{name}", f"post{name}"} & scripts.keys()
        return direct if runner == "node" and "yarn" not in words and not hooks and script.startswith("node ") else None
    if any(re.search(r"[\[\]{}]", test) for test in tests):
        # npm hands these to its shell without quotes: the pattern [q].js would be the file q.js.
        return None
    if "pnpm" in words:
        # `pnpm test` takes options for its own.
        line = re.sub(r"\bpnpm\s+(?:test|t)\b", "pnpm run test", line, count=1)
    between = " --" if "npm" in words and "--" not in words else ""
    return f"{line}{between}{direct[len(script) :]}"


def _direct(
    line: str, runner: Runner, before: Sequence[str], after: Sequence[str], tests: Sequence[str], survey: Survey
) -> str | None:
    if any(word.partition("=")[0] in _ELSEWHERE for word in after) or (runner in ("vitest", "jest") and "-r" in after):
        return None
    loose = _loose(after)
    if runner == "vitest" and loose and after[loose[0]] in ("run", "watch"):
        loose = loose[1:]
    places = [after[at] for at in loose]
    chosen = _suite(runner, tests, places, survey)
    added = _WORDS[runner](chosen) if chosen else None
    if added is None or (runner == "go" and not places) or (runner == "pytest" and _own_roots(chosen, survey)):
        return None
    if not places:
        return f"{line} {shlex.join(added)}"
    if "--" in after or _REWRITTEN.search(line):
        return None
    kept = [word for at, word in enumerate(after) if at not in loose]
    return _joined([*before, *kept, *added])


def _loose(words: Sequence[str]) -> list[int]:
    """Where the words are that are neither options nor values of options."""
    found, is_value = [], False
    for at, word in enumerate(words):
        if is_value:
            is_value = False
        elif word.startswith("-"):
            is_value = word in _TAKES
        else:
            found.append(at)
    return found


def _joined(words: Sequence[str]) -> str:
    """Like `shlex.join`, but for assignments, which are none with quotes around them."""
    parts = []
    for word in words:
        name, equals, value = word.partition("=")
        parts.append(f"{name}={shlex.quote(value)}" if equals and name.isidentifier() else shlex.quote(word))
    return " ".join(parts)


def _dashed(tests: Sequence[str]) -> list[str]:
    # A name like an option, and for pytest one like a file of arguments.
    return [f"./{test}" if test.startswith(("-", "@")) else test for test in tests]


def _suite(runner: Runner, tests: Sequence[str], places: Sequence[str], survey: Survey) -> list[str]:
    """The tests that this runner would run of itself; `places`: what the line limits it to."""
    if not all(_is_place(runner, place, survey) for place in places):
        return []
    of_runner = [test for test in tests if _belongs(runner, test, searched=not places)]
    if runner == "go":
        of_runner = [test for test in of_runner if _in_module(test, survey)]
    if not places:
        return of_runner
    return [test for test in of_runner if any(_within(runner, test, place) for place in places)]


def _is_place(runner: Runner, place: str, survey: Survey) -> bool:
    if runner == "go":
        return place in (".", "./...") or place.startswith("./")
    if runner == "node" and re.search(r"[*?]", place):
        return True
    clean = posixpath.normpath(place)
    return clean == "." or any(path == clean or path.startswith(f"{clean}/") for path in survey.files)


def _belongs(runner: Runner, test: str, *, searched: bool) -> bool:
    match runner:
        case "pytest":
            return test.endswith(".py")
        case "go":
            return test.endswith("_test.go")
        case "node":
            # Without paths, Node looks for its own kinds of names.
            own = not searched or not re.search(r"\.spec\.\w+$|(?:^|/)__tests__/", test)
            return own and not test.endswith((".py", ".go", ".rs"))
    return re.search(r"\.(?:test|spec)\.\w+$|(?:^|/)__tests__/.*\.[cm]?[jt]sx?$", test) is not None


def _in_module(test: str, survey: Survey) -> bool:
    """Whether `./...` of the checkout's root comes there: not to other modules, and not to folders that Go ignores."""
    folders = test.split("/")[:-1]
    if any(folder.startswith((".", "_")) or folder in ("testdata", "vendor") for folder in folders):
        return False
    above = ["/".join([*folders[:end], "go.mod"]) for end in range(len(folders) + 1)]
    return [path for path in above if path in survey.files] == ["go.mod"]


def _within(runner: Runner, test: str, place: str) -> bool:
    if runner == "node" and re.search(r"[*?]", place):
        patterns = {place.removeprefix("./"), place.removeprefix("./").replace("**/", "")}
        return any(fnmatch.fnmatchcase(test, pattern) for pattern in patterns)
    if runner == "go" and not place.endswith("..."):
        return (posixpath.dirname(test) or ".") == posixpath.normpath(place)
    clean = posixpath.normpath(place.removesuffix("..."))
    return clean in (".", test) or test.startswith(f"{clean}/")


def _pytest(tests: Sequence[str]) -> list[str] | None:
    # pytest reads these as names of tests inside a file.
    odd = any("::" in test or "[" in test for test in tests)
    # Else a last option that may take a value, such as --cov, takes the first path.
    return None if odd else ["--", *_dashed(tests)]


def _vitest(tests: Sequence[str]) -> list[str]:
    # A flag before the paths, for the same reason; what is behind `--` it would not take for paths.
    return ["--run", *_dashed(tests)]


def _jest(tests: Sequence[str]) -> list[str]:
    # Else they are regular expressions, and `[id].test.js` does not match itself.
    return ["--runTestsByPath", *_dashed(tests)]


def _node(tests: Sequence[str]) -> list[str] | None:
    # Newer ones take paths for patterns.
    return None if any(re.search(r"[*?\[{(\\]", test) for test in tests) else _dashed(tests)


def _go(tests: Sequence[str]) -> list[str] | None:
    packages = sorted({posixpath.dirname(test) for test in tests})
    if any("..." in package for package in packages):
        return None
    return [f"./{package}" if package else "." for package in packages]


_WORDS: dict[Runner, Callable[[Sequence[str]], list[str] | None]] = {
    "pytest": _pytest,
    "vitest": _vitest,
    "jest": _jest,
    "node": _node,
    "go": _go,
}


def _own_roots(tests: Sequence[str], survey: Survey) -> bool:
    """Whether a folder above one of the tests, below the checkout's, has a configuration of its own.

    pytest, given paths in it alone, would take that one and name its tests otherwise than in the whole suite.
    """
    folders = {"/".join(parts[:end]) for test in tests for parts in [test.split("/")] for end in range(1, len(parts))}
    return any(f"{folder}/{name}" in survey.files for folder in folders for name in CONFIGURATIONS)


# unittest knows modules, and their names depend on where discovery starts.


def _unittest(before: Sequence[str], after: Sequence[str], tests: Sequence[str], survey: Survey) -> str | None:
    given: dict[str, str] = {}
    flags: list[str] = []
    words = iter(after[1:] if after[:1] == ["discover"] else after)
    order = iter(("-s", "-p", "-t") if after[:1] == ["discover"] else ())
    for word in words:
        name = {"--start-directory": "-s", "--pattern": "-p", "--top-level-directory": "-t"}.get(word, word)
        if name in ("-s", "-p", "-t"):
            given[name] = next(words, "")
        elif name == "-k":
            flags += [word, next(words, "")]
        elif word.startswith("-"):
            flags.append(word)
        elif place := next(order, None):
            given[place] = word
        else:
            return None
    start = posixpath.normpath(given.get("-s", "."))
    top = posixpath.normpath(given.get("-t", start))
    pattern = given.get("-p", "test*.py")
    modules = [module for test in tests if (module := _module(test, start, top, pattern, survey))]
    if not modules or any(_REWRITTEN.search(word) for word in before) or top.startswith(("..", "/")):
        return None
    loud = [] if {"-v", "-q", "--verbose", "--quiet"} & set(flags) else ["-v"]
    return _joined([*_on_path(before, top), *loud, *flags, *modules])


def _module(test: str, start: str, top: str, pattern: str, survey: Survey) -> str:
    """The name that discovery gives it; empty if it does not get there."""
    folder, name = posixpath.split(test)
    if not re.fullmatch(r"[^\W\d]\w*\.py", name) or not fnmatch.fnmatch(name, pattern):
        return ""
    if not _within("", test, start) or not _within("", test, top):
        return ""
    while folder != ("" if top == "." else top):
        # It does not go into folders that are no packages.
        if f"{folder}/__init__.py" not in survey.files or not posixpath.basename(folder).isidentifier():
            return ""
        folder = posixpath.dirname(folder)
    return posixpath.relpath(test, top).removesuffix(".py").replace("/", ".")


def _on_path(before: Sequence[str], top: str) -> list[str]:
    """Discovery puts its top folder in front of the path; named modules are looked for in the checkout's root."""
    if top == ".":
        return list(before)
    old = next((word for word in before if word.startswith("PYTHONPATH=")), "")
    rest = [word for word in before if word != old]
    return [f"PYTHONPATH={top}{':' if old else ''}{old.partition('=')[2]}", *rest]
