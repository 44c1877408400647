"""Results by test: how a runner is asked for them, and how its report is read. Pure.

A report comes out of the sandbox, so it is hostile until read: it may be cut, huge, nested or a lie. It counts only
where the exit code agrees with it; else the printed words do (`graph.outputs`).
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote
from xml.parsers import expat

from graph.outputs import Case, How, Reading, runs, tally, words
from graph.runners import package_script, plain, runner_of
from graph.telling import stops_early
from graph.values import Command, Outcome, Runner

__all__ = ["Reading", "asked", "read", "refused", "report_of", "runner_of", "shown"]

JUNIT, TESTS, NODE, GO = "junit.xml", "tests.json", "node-tests.jsonl", "go-tests.jsonl"
_FILES: dict[Runner, str] = {"vitest": TESTS, "jest": TESTS, "node": NODE, "go": GO}
_MOST = 200_000
"""Tests of one report."""
_DEEPEST = 60
"""Levels of tests inside tests."""
_SHOWN = 64_000
"""Characters of a readable output that is made of a report, as the sandbox keeps them."""

_REPORTER = """export default async function*(s){for await(const{type:t,data:d}of s)
if(t=="test:start"||t=="test:pass"||t=="test:fail"){const e=d.details||{};yield JSON.stringify({how:t.slice(5),
depth:d.nesting,name:d.name,file:d.file,skip:d.skip!==undefined&&d.skip!==false,
todo:d.todo!==undefined&&d.todo!==false,kind:e.type,
why:e.error&&e.error.failureType})+"\\n"}}""".replace("\n", "")
"""Node's own reporters leave out the file of a test that passed."""


def report_of(command: Command) -> str:
    """Name of the file that the runner leaves; empty if none is asked for."""
    return _FILES.get(command.runner, JUNIT) if command.kind == "test" else ""


def asked(command: Command, scratch: str) -> tuple[str, dict[str, str]]:
    """The command line to run instead, and variables to add, so that results by test are left in `scratch`.

    pytest is asked by variable, whatever the command: a Makefile or a script may start it.
    """
    line, path = command.command, f"{scratch}/{report_of(command)}"
    if command.kind != "test":
        return line, {}
    match command.runner if plain(line) else "":
        case "vitest":
            reporters = f"--reporter=default --reporter=json --outputFile.json={shlex.quote(path)}"
            return _with_arguments(line, reporters), {}
        case "jest":
            return _with_arguments(line, f"--json --outputFile={shlex.quote(path)}"), {}
        case "node":
            # The values may hold no space: the variable knows no quotes.
            to = "--test-reporter=spec --test-reporter-destination=stdout"
            reporter = f"data:text/javascript,{quote(_REPORTER)}"
            return line, {
                "NODE_OPTIONS": f"{to} --test-reporter={reporter} --test-reporter-destination={quote(path, safe='/')}"
            }
        case "go":
            # Not to the output: it is kept in part only, and a command that prints much is ended.
            if not re.search(r"\s--?json\b", line):
                line = re.sub(r"\bgo\s+test\b", "go test -json", line, count=1)
            return f"{line} > {shlex.quote(path)}", {}
        case "cargo":
            # Else an old failure in one binary hides what is new in the next.
            more = "" if "--no-fail-fast" in line else " --no-fail-fast"
            return re.sub(r"(\bcargo\s(?:.*?\s)??(?:test|t))(?=\s|$)", rf"\1{more}", line, count=1), {}
        case "unittest":
            return f"{line} -v", {}
    # This older form names each test's file. Without a maximum an old failure does not keep new ones from being seen.
    return line, {"PYTEST_ADDOPTS": f"--junitxml={shlex.quote(path)} -o junit_family=xunit1 --maxfail=0"}


def _with_arguments(line: str, arguments: str) -> str:
    """A package's script gets arguments after `--` from npm; pnpm and yarn hand them on, and pnpm takes `--` as one."""
    tokens = shlex.split(line)
    if package_script(line) is not None and "pnpm" in tokens:
        # `pnpm test` takes options for its own.
        line = re.sub(r"\bpnpm\s+(?:test|t)\b", "pnpm run test", line, count=1)
    between = "-- " if "npm" in tokens and "--" not in tokens else ""
    return f"{line} {between}{arguments}"


def refused(command: Command, outcome: Outcome, report: bytes | None) -> bool:
    """Whether our own request may be why the command failed: then it is to be run once more as it is.

    A runner can be too old for a reporter, or have that part switched off.
    """
    if command.kind != "test" or outcome.ended != "exit" or report is not None:
        return False
    if command.runner == "go":
        # The report is all that was printed. It may have been too large to be handed over.
        return plain(command.command) and outcome.exit not in (126, 127)
    if outcome.exit in (0, 126, 127):
        return False
    ours = ("junitxml", "--test-reporter", "outputFile", "no-fail-fast")
    return any(word in outcome.output for word in ours)


def read(command: Command, outcome: Outcome, report: bytes | None, root: str = "") -> Reading:
    """What the report says where it can be trusted; else what the output says. `root`: the checkout's path inside."""
    reading = _read(command, outcome, report, root)
    if reading.failing and stops_early(command, outcome):
        return replace(reading, whole=False, named=False, stopped=True)
    return reading


def _read(command: Command, outcome: Outcome, report: bytes | None, root: str) -> Reading:
    found = None if report is None or outcome.ended != "exit" else _read_report(command, outcome, report, root)
    if found is not None and _agrees(found, outcome):
        return found
    told = words(outcome.output, command.runner, dropped=outcome.dropped > 0)
    lies = found is not None or (outcome.ended == "exit" and outcome.exit == 0)
    if lies and told.whole:
        told = Reading(told.executed, failing=told.failing, empty=told.empty, passed=told.passed)
    if found is not None and found.failing and not told.failing:
        # The exit code does not agree, and may be the lie: a pipe's, or that of `|| true`.
        told = replace(told, failing=found.failing, whole=False)
    if command.kind == "test" and outcome.exit == 5 and told.executed is None:
        return Reading(0, empty=True)
    return told


def _agrees(found: Reading, outcome: Outcome) -> bool:
    if found.empty and not found.skipped:
        # With another exit code it is a run that broke before its first test.
        return outcome.exit in (0, 5)
    return (outcome.exit == 0) == (not found.failing)


def _read_report(command: Command, outcome: Outcome, report: bytes, root: str) -> Reading | None:
    """None when it is not understood: every shape that is not the expected one ends here."""
    try:
        match command.runner:
            case "vitest" | "jest":
                return tally(_some(_js_cases(json.loads(report), root)))
            case "node":
                return tally(_some(_node_cases(report, root)))
            case "go":
                return tally(_some(_go_cases(_go_events(report))))
            case "pytest":
                return tally(_some(_junit_cases(report, root)), merged=True)
            case "" if runs(outcome.output) <= 1:
                # A script that starts several leaves the report of the last.
                return tally(_some(_junit_cases(report, root)), merged=True)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, expat.ExpatError):
        return None
    return None


def _some(cases: Iterator[Case]) -> Iterator[Case]:
    for number, case in enumerate(cases):
        if number >= _MOST:
            raise ValueError("too many tests")
        yield case


def _relative(path: str, root: str) -> str:
    """A file's name as a person in the checkout would say it; never absolute."""
    path = path.removeprefix("file://").replace("\\", "/")
    if root and path.startswith(f"{root}/"):
        return path[len(root) + 1 :]
    return PurePosixPath(path).name if path.startswith("/") else path.removeprefix("./")


class _Junit:
    """Reads testcases as they come, and refuses documents that declare entities."""

    def __init__(self) -> None:
        self.cases: list[tuple[dict[str, str], How]] = []
        self._open: dict[str, str] | None = None
        self._how: How = "passed"

    def doctype(self, *_: object) -> None:
        raise ValueError("a report declares no document type")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "testcase":
            self._open, self._how = attributes, "passed"
        elif self._open is not None and tag in ("failure", "error", "skipped"):
            self._how = self._worse(tag, attributes)

    def end(self, tag: str) -> None:
        if tag == "testcase" and self._open is not None:
            self.cases.append((self._open, self._how))
            if len(self.cases) > _MOST:
                raise ValueError("too many tests")
            self._open = None

    def _worse(self, tag: str, attributes: dict[str, str]) -> How:
        if tag == "skipped":
            # What was expected to fail, and did, has run.
            ran = attributes.get("type") == "pytest.xfail"
            return self._how if self._how != "passed" or ran else "skipped"
        after = attributes.get("message", "").startswith(("failed on teardown", "test teardown failure"))
        return "failed" if tag == "failure" or after or self._how == "failed" else "unloaded"


def _junit_cases(report: bytes, root: str) -> Iterator[Case]:
    junit = _Junit()
    # Not a look at the bytes: in another encoding a declaration is spelt differently.
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = junit.doctype
    parser.EntityDeclHandler = junit.doctype
    parser.StartElementHandler = junit.start
    parser.EndElementHandler = junit.end
    parser.Parse(report, True)
    for attributes, how in junit.cases:
        name, group = attributes.get("name", ""), attributes.get("classname", "")
        if (group, name) == ("pytest", "internal"):
            raise ValueError("pytest itself failed")
        yield _node_id(name, group, _relative(attributes.get("file", ""), root)), how


def _node_id(name: str, group: str, file: str) -> str:
    """What pytest's own lines call it: `tests/test_a.py::TestB::test_c[1]`."""
    if not group:
        # A module that could not be collected.
        return file or f"{name.replace('.', '/')}.py"
    module = file.removesuffix(".py").replace("/", ".")
    if file and (group == module or group.startswith(f"{module}.")):
        inner = [part for part in group[len(module) :].split(".") if part]
    elif file and group == file.replace("/", "."):
        inner = []
    else:
        # The file is where the function is written, which an inherited test has elsewhere.
        parts = group.split(".")
        cut = next((at for at in range(1, len(parts)) if parts[at][:1].isupper()), len(parts))
        file, inner = f"{'/'.join(parts[:cut])}.py", parts[cut:]
    return "::".join([file, *inner, name])


def _js_cases(report: Any, root: str) -> Iterator[Case]:
    for suite in report["testResults"]:
        file = _relative(str(suite["name"]), root)
        failed = False
        for test in suite["assertionResults"]:
            status = test["status"]
            how: How = "passed" if status == "passed" else "failed" if status == "failed" else "skipped"
            failed = failed or how == "failed"
            yield " > ".join(str(part) for part in (file, *test["ancestorTitles"], test["title"])), how
        if suite["status"] == "failed" and not failed:
            yield file, "unloaded"


def _node_cases(report: bytes, root: str) -> Iterator[Case]:
    """Each test is told when it starts, and again when it ends, after those inside it."""
    names: list[str] = []
    for line in filter(None, report.decode("utf-8", "replace").split("\n")):
        event = json.loads(line)
        name, depth, file = str(event["name"]), event["depth"], _relative(str(event.get("file") or ""), root)
        if not isinstance(depth, int) or not 0 <= depth < _DEEPEST:
            raise ValueError("no depth of a test")
        names = [*names[:depth], name]
        if event["how"] == "start":
            continue
        broken = event["how"] == "fail" and event.get("why") != "subtestsFailed"
        # An older Node tells every file as a test, and every Node a file that ended badly.
        path = [part for part in names if _relative(part, root) != file]
        if not path or event.get("kind") == "suite":
            if broken:
                yield " > ".join([file, *path]), "unloaded"
        else:
            skipped = event.get("skip") or event.get("todo")
            yield " > ".join([file, *path]), "skipped" if skipped else "passed" if event["how"] == "pass" else "failed"


def _go_events(report: bytes) -> Iterator[dict[str, Any]]:
    """Go mixes plain lines in: of the compiler, of a test binary that dies."""
    for line in report.decode("utf-8", "replace").split("\n"):
        event: Any = None
        if line.startswith("{"):
            try:
                event = json.loads(line)
            except (ValueError, RecursionError):
                event = None
        if isinstance(event, dict) and isinstance(event.get("Action"), str):
            yield event
        elif line:
            yield {"Output": f"{line}\n"}


def _go_cases(events: Iterator[dict[str, Any]]) -> Iterator[Case]:
    how: dict[str, How] = {"pass": "passed", "fail": "failed", "skip": "skipped"}
    failed: set[str] = set()
    why: dict[str, str] = {}
    for event in events:
        package, test, action = str(event.get("Package", "")), str(event.get("Test", "")), event.get("Action", "")
        if found := re.search(r"\[(build failed|setup failed)\]", str(event.get("Output", ""))[:400]):
            why[package] = found[1]
        if action not in how or not package:
            continue
        if test:
            failed |= {package} if action == "fail" else set()
            yield f"{package}.{test}", how[action]
        elif action == "fail" and package not in failed:
            reason = "build failed" if event.get("FailedBuild") else why.get(package, "failed")
            yield f"{package} [{reason}]", "unloaded"


def shown(command: Command, outcome: Outcome, report: bytes | None) -> Outcome:
    """The outcome as a person reads it: with the command as it is called, and go's words instead of its report."""
    if command.runner != "go" or report is None:
        return outcome.model_copy(update={"command": command.command})
    text = _go_words(report)
    dropped = max(len(text) - _SHOWN, 0)
    if dropped:
        text = f"{text[: _SHOWN // 2]}\n[… {dropped} characters left out …]\n{text[-_SHOWN // 2 :]}"
    update = {"command": command.command, "output": outcome.output + text, "dropped": outcome.dropped + dropped}
    return outcome.model_copy(update=update)


def _go_words(report: bytes) -> str:
    """What go prints without `-json`: of tests, only those that failed."""
    lines: list[tuple[tuple[str, str], str]] = []
    failed: set[tuple[str, str]] = set()
    for event in _go_events(report):
        key = (str(event.get("Package", "")), str(event.get("Test", "")))
        if event.get("Action") == "fail":
            failed.add(key)
        text = str(event.get("Output", ""))
        if text and not re.match(r"=== (?:RUN|PAUSE|CONT|NAME) ", text):
            lines.append((key, text))
    return "".join(text for key, text in lines if not key[1] or key in failed)
