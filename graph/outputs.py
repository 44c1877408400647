"""What the words that a test runner prints say: how many tests ran, and their names where it names them. Pure.

The words come out of the sandbox: names are cleaned, and every pattern is linear in the length of the output.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from graph.values import Runner

KEPT_NAMES = 5_000
"""Names of one kind that are kept of a run."""
NAME = 200
"""Characters of a test's name."""

How = Literal["passed", "failed", "skipped", "unloaded"]
"""Unloaded: its file, its package or what it needs beforehand failed, so the test itself did not run."""
Case = tuple[str, How]
_RANK: dict[How, int] = {"skipped": 0, "passed": 1, "unloaded": 2, "failed": 3}

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_PYTEST_LINE = re.compile(r"^=*[ \t]*((?:\d+ (?:subtests )?[a-z]+(?:, )?)+) in [\d.]+ ?s.*$", re.MULTILINE)
_PYTEST_NAME = re.compile(r"^(FAILED|ERROR|SUBFAILED(?:\([^\n)]*\)|\[[^\n\]]*\])*) (\S.*)$", re.MULTILINE)
_UNITTEST_RAN = re.compile(r"^Ran (\d+) tests? in ", re.MULTILINE)
_UNITTEST_NAME = re.compile(r"^(?:FAIL|ERROR|UNEXPECTED SUCCESS): (.+)$", re.MULTILINE)
_UNITTEST_SUM = re.compile(r"^(?:FAILED|OK) \((.*)\)$", re.MULTILINE)
_UNITTEST_TEST = re.compile(r"(\w+ \([\w.]+\))(?: \.\.\. (.*))?")
_UNITTEST_END = re.compile(r"(?:.* \.\.\. )?(ok|FAIL|ERROR|expected failure|unexpected success|skipped .*)")
_CARGO_RAN = re.compile(r"^running (\d+) tests?$", re.MULTILINE)
_CARGO_END = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed;", re.MULTILINE)
_CARGO_BROKEN = re.compile(r"^error: could not compile `([\w-]{1,80})`", re.MULTILINE)
_CARGO_LINE = re.compile(
    r"^ *Running (?:unittests )?(\S+) \((?:\S*[/\\])?([\w.-]{1,100}?)-[0-9a-f]{16}(?:\.exe)?\)$"
    r"|^ *Doc-tests (\S+)$"
    r"|^test (\S.*?)(?: - should panic)? \.\.\. (ok|FAILED|ignored)\b.*$",
    re.MULTILINE,
)
_GO_PACKAGE = re.compile(r"(ok|FAIL) *\t(\S+)")
_GO_WHY = re.compile(r"\[(build failed|setup failed|no tests to run)\]")
_GO_TEST = re.compile(r" *--- (PASS|FAIL|SKIP): (\S+) \(")
_JS_TESTS = re.compile(r"^ *Tests:? +(?=\d|no tests)(.*)$", re.MULTILINE)
_JS_FILES = re.compile(r"^ *Test (?:Suites:|Files) .*\bfailed\b", re.MULTILINE)
_MOCHA = re.compile(r"^ +(\d+) (passing|failing)\b", re.MULTILINE)
_NODE = re.compile(r"^(?:ℹ|#) (pass|fail|cancelled) (\d+)$", re.MULTILINE)
_NO_TESTS = re.compile(r"no tests ran|no tests found|no test files|no tests to run|collected 0 items", re.IGNORECASE)


@dataclass(frozen=True)
class Reading:
    """What a run says of its tests. Skipped tests are not executed ones."""

    executed: int | None = None
    """None when it does not say."""
    passing: tuple[str, ...] = ()
    failing: tuple[str, ...] = ()
    """With what could not be loaded: a file, a package."""
    skipped: tuple[str, ...] = ()
    whole: bool = False
    """All failures are named. False where the run did not fail: there the exit code says enough."""
    empty: bool = False
    """There was nothing to execute, not even tests that could not be loaded."""
    named: bool = False
    """All tests are named, passing ones too."""
    passed: int | None = None
    told: bool = False
    """Something ran, even where `executed` is None."""
    stopped: bool = False
    """It ended at its first failures, or may have."""
    cut: bool = False
    """What runs the tests ended before it had told of all that it began."""


def clean(name: str) -> str:
    """One printable line. A long name ends in a digest: cut only, a new failure could hide behind an old one."""
    if not (name.isascii() and name.isprintable()):
        name = "".join(" " if c in "\r\n\t" else c for c in name if c in "\r\n\t" or unicodedata.category(c)[0] != "C")
    if len(name) <= NAME:
        return name
    return f"{name[: NAME - 10]}… {hashlib.sha256(name.encode()).hexdigest()[:8]}"


def tally(cases: Iterable[Case], *, merged: bool = False) -> Reading:
    """Count and name. `merged`: cases of one name are parts of one test (pytest's teardown); else the names are not
    unique, and a second failure of one name gets a number: it must not pass for the first.
    """
    cleaned: list[Case] = [(clean(name), how) for name, how in cases]
    if merged:
        worst: dict[str, How] = {}
        for name, how in cleaned:
            if name not in worst or _RANK[how] > _RANK[worst[name]]:
                worst[name] = how
        cleaned = list(worst.items())
    counts: Counter[How] = Counter(how for _, how in cleaned)
    failing = tuple(_numbered(name for name, how in cleaned if how in ("failed", "unloaded")))
    bad = set(failing)
    passing = tuple(dict.fromkeys(name for name, how in cleaned if how == "passed" and name not in bad))
    skipped = tuple(dict.fromkeys(name for name, how in cleaned if how == "skipped"))
    executed = counts["passed"] + counts["failed"]
    return Reading(
        executed,
        passing,
        failing[:KEPT_NAMES],
        skipped,
        whole=0 < len(failing) <= KEPT_NAMES,
        empty=executed + len(failing) == 0,
        named=True,
        passed=counts["passed"],
    )


def _numbered(names: Iterable[str]) -> Iterable[str]:
    seen: Counter[str] = Counter()
    for name in names:
        seen[name] += 1
        yield name if seen[name] == 1 else f"{name} ({seen[name]})"


def words(output: str, runner: Runner = "", *, dropped: bool = False) -> Reading:
    """What the output says; `dropped`: its middle is missing.

    Where the runner is not known, and more than one speaks, not all failures are named: what one leaves out, the
    other's names must not stand for.
    """
    text = _ANSI.sub("", output)
    known = _READERS.get("vitest" if runner == "jest" else runner)
    readers = [known] if known else list(_READERS.values())
    found = [_lossy(reader, reading) if dropped else reading for reader in readers if (reading := reader(text))]
    if len(found) == 1:
        return found[0]
    if found:
        return Reading(
            sum(one.executed or 0 for one in found) if all(one.executed is not None for one in found) else None,
            failing=tuple(dict.fromkeys(name for one in found for name in one.failing)),
            empty=all(one.empty for one in found),
            passed=sum(one.passed or 0 for one in found) if all(one.passed is not None for one in found) else None,
            told=any(one.told for one in found),
            cut=any(one.cut for one in found),
        )
    none = bool(_NO_TESTS.search(text))
    return Reading(0 if none else None, empty=none)


def _lossy(reader: Callable[[str], Reading | None], reading: Reading) -> Reading:
    """pytest and unittest give their sums at the end; cargo and go one for each binary, and some may be missing."""
    if reader in (_cargo, _go):
        return Reading(failing=reading.failing, told=True)
    return replace(reading, passing=(), named=False)


def runs(output: str) -> int:
    """How many runs of runners the output shows; for a command that may start several."""
    text = _ANSI.sub("", output)
    others = [reader for runner, reader in _READERS.items() if runner != "pytest"]
    return len(_PYTEST_LINE.findall(text)) + sum(reader(text) is not None for reader in others)


def _pytest(text: str) -> Reading | None:
    lines = _PYTEST_LINE.findall(text)
    if not lines:
        return None
    counts: Counter[str] = Counter()
    for number, word in (pair for line in lines for pair in re.findall(r"(\d+) ([a-z]+)", line)):
        counts[word] += _number(number)
    failures = counts["failed"] + counts["error"] + counts["errors"]
    # Where nothing failed, these are words of a log.
    told = [(word, clean(_before_message(rest))) for word, rest in _PYTEST_NAME.findall(text) if failures]
    named = [name for _, name in told]
    executed = sum(counts[word] for word in ("passed", "failed", "xfailed", "xpassed"))
    return Reading(
        executed,
        failing=tuple(dict.fromkeys(named))[:KEPT_NAMES],
        # One name for two failures: what fails newly could hide behind what failed before.
        whole=KEPT_NAMES >= len(named) >= failures > 0 and len(set(told)) == len(told),
        empty=executed + failures == 0,
        passed=counts["passed"],
    )


def _before_message(said: str) -> str:
    """A test's name, of a line that may go on with ` - ` and why it failed; a parameter in brackets may hold that."""
    depth = 0
    for at, char in enumerate(said):
        depth += (char == "[") - (char == "]" and depth > 0)
        if not depth and said.startswith(" - ", at):
            return said[:at]
    return said


def _unittest(text: str) -> Reading | None:
    counted = _UNITTEST_RAN.findall(text)
    if not counted:
        return None
    ran = sum(map(_number, counted))
    said = "\n".join(_UNITTEST_SUM.findall(text))
    failures = _sum(r"(?<!expected )(?:failures|errors)=(\d+)", said) + _sum(r"unexpected successes=(\d+)", said)
    # Where nothing failed, these are words of a log.
    names = [clean(name) for name in _UNITTEST_NAME.findall(text) if failures]
    # A module that cannot be imported is counted as one test that ran.
    unloaded = sum("_FailedTest" in name for name in names)
    executed = max(ran - unloaded - _sum(r"skipped=(\d+)", said), 0)
    # A subtest's failure is the test's too.
    tests = [found[1] for name in names if (found := re.match(r"(\w+ \([\w.]+\)) [\[(]", name))]
    failing = tuple(dict.fromkeys([*names, *tests]))
    cases = _unittest_cases(text)
    passing = tuple(dict.fromkeys(name for name, how in cases if how == "passed" and name not in failing))
    # What tests print tears the lines apart: then names are missing.
    named = len(cases) == ran and sum(how == "failed" for _, how in cases) <= len(failing)
    return Reading(
        executed,
        passing if named else (),
        failing[:KEPT_NAMES],
        tuple(name for name, how in cases if how == "skipped"),
        whole=KEPT_NAMES >= len(names) >= failures > 0,
        empty=executed + len(names) + failures == 0,
        named=named,
        passed=sum(how == "passed" for _, how in cases) if named else None,
    )


def _unittest_cases(text: str) -> list[Case]:
    """Of a run with `-v`. A test's line ends in how it ended; what it prints, and its first words of documentation,
    come between.
    """
    cases: list[Case] = []
    name = ""
    for line in text.splitlines():
        if line.startswith("====="):
            break
        if found := _UNITTEST_TEST.match(line):
            name = clean(found[1])
        if name and (ended := _UNITTEST_END.fullmatch(line)):
            word = ended[1].partition(" ")[0]
            how: How = "skipped" if word == "skipped" else "passed" if word in ("ok", "expected") else "failed"
            cases.append((name, how))
            name = ""
        elif name and line.startswith("  ") and line.endswith((" ... FAIL", " ... ERROR")):
            # Subtests that failed are told instead of the test's own end.
            cases.append((name, "failed"))
            name = ""
    return cases


def _cargo(text: str) -> Reading | None:
    running = [_number(count) for count in _CARGO_RAN.findall(text)]
    if not running:
        # Nothing runs before everything is built.
        broken = _CARGO_BROKEN.findall(text)
        return tally((f"{crate} [build failed]", "unloaded") for crate in dict.fromkeys(broken)) if broken else None
    ends = [(_number(passed), _number(failed)) for passed, failed in _CARGO_END.findall(text)]
    passed, failed = sum(end[0] for end in ends), sum(end[1] for end in ends)
    told = tally(_cargo_cases(text))
    ended = len(ends) == len(running)
    executed = passed + failed if ended else told.executed or 0
    return replace(
        told,
        executed=executed,
        whole=ended and told.whole and len(told.failing) == failed,
        empty=executed + len(told.failing) + sum(running) == 0,
        named=ended and told.executed == executed,
        passed=passed if ended else None,
        cut=not ended and sum(running) > 0,
    )


def _cargo_cases(text: str) -> Iterable[Case]:
    """Several binaries may have tests of one name: the crate and the source file come first."""
    where = ""
    for found in _CARGO_LINE.finditer(text):
        path, crate, documented, name, ended = found.groups()
        if path:
            where = f"{crate} {path}: "
        elif documented:
            where = f"{documented} doc-tests: "
        else:
            # The line number of a documentation test moves with every edit above it.
            plain = re.sub(r" \(line \d+\)", "", name)
            yield f"{where}{plain}", "passed" if ended == "ok" else "failed" if ended == "FAILED" else "skipped"


def _go(text: str) -> Reading | None:
    """Without `-v`, passing tests are not named, and not counted."""
    cases: list[Case] = []
    pending: list[tuple[str, str]] = []
    ran = packages = False
    for line in text.splitlines():
        if test := _GO_TEST.match(line):
            pending.append((test[1], test[2]))
        elif package := _GO_PACKAGE.match(line):
            why = _GO_WHY.search(line)
            packages = True
            ran = ran or why is None
            how: dict[str, How] = {"PASS": "passed", "FAIL": "failed", "SKIP": "skipped"}
            cases += [(f"{package[2]}.{name}", how[word]) for word, name in pending]
            if package[1] == "FAIL" and not any(word == "FAIL" for word, _ in pending):
                cases.append((f"{package[2]} [{why[1] if why else 'failed'}]", "unloaded"))
            pending = []
    if not packages:
        return None
    told = tally(cases)
    verbose = told.passed or told.skipped
    executed = told.executed if verbose or not ran else None
    return replace(
        told,
        executed=executed,
        named=False,
        empty=not ran and not told.failing,
        passed=told.passed if verbose else None,
        told=ran,
    )


def _js(text: str) -> Reading | None:
    """jest, vitest, mocha: numbers only."""
    pairs = [pair for line in _JS_TESTS.findall(text) for pair in re.findall(r"(\d+) (passed|failed)\b", line)]
    mocha = [(number, "passed" if word == "passing" else "failed") for number, word in _MOCHA.findall(text)]
    if not pairs and not mocha and not _JS_TESTS.search(text):
        return None
    counts: Counter[str] = Counter()
    for number, word in [*pairs, *mocha]:
        counts[word] += _number(number)
    executed = counts["passed"] + counts["failed"]
    return Reading(executed, empty=executed == 0 and not _JS_FILES.search(text), passed=counts["passed"])


def _node(text: str) -> Reading | None:
    counts: Counter[str] = Counter()
    for word, number in _NODE.findall(text):
        counts[word] += _number(number)
    if not {"pass", "fail"} <= set(counts):
        return None
    executed = sum(counts.values())
    return Reading(executed, empty=executed == 0, passed=counts["pass"])


def _number(digits: str) -> int:
    """A count that a runner printed, or a test in its name: Python refuses to read thousands of digits."""
    return int(digits[:9])


def _sum(pattern: str, text: str) -> int:
    return sum(map(_number, re.findall(pattern, text)))


_READERS: dict[Runner, Callable[[str], Reading | None]] = {
    "pytest": _pytest,
    "unittest": _unittest,
    "cargo": _cargo,
    "go": _go,
    "vitest": _js,
    "node": _node,
}
