"""Results by test."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from runnersamples import CARGO, GO, HOSTILE, JUNIT, NODE, ROOT, SAMPLES, UNITTEST, VITEST

from graph.comparing import baseline, judge
from graph.outputs import NAME, Reading, clean, tally, words
from graph.reports import asked, read, refused, report_of, runner_of, shown
from graph.values import Command, Outcome, Runner

RUNNERS: tuple[Runner, ...] = ("", "pytest", "unittest", "vitest", "jest", "node", "go", "cargo")


def command(runner: Runner, line: str = "x") -> Command:
    return Command(kind="test", command=line, found_in="here", runner=runner)


def ended(exit_code: int, output: str = "", dropped: int = 0) -> Outcome:
    return Outcome(command="x", exit=exit_code, seconds=1, output=output, dropped=dropped)


def test_a_junit_report_calls_tests_as_pytest_does() -> None:
    reading = read(command("pytest"), ended(1), JUNIT.encode())
    assert reading.failing == (
        "tests/sub/test_b.py",
        "tests/test_a.py::TestK::test_m",
        "tests/test_a.py::test_err",
        "tests/test_a.py::test_td",
    )
    assert reading.passing == (
        "test_top.py::test_t",
        "tests/test_a.py::TestK::TestInner::test_in",
        "tests/test_a.py::test_p[a/b.c]",
        "tests/test_a.py::test_xf",
        "README.md::README.md",
    )
    assert (reading.skipped, reading.executed, reading.passed) == (("tests/test_a.py::test_s",), 7, 5)
    assert (reading.whole, reading.named) == (True, True)


def test_a_real_report_and_the_printed_words_use_the_same_names(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_a.py").write_text(
        "import pytest\n\nclass TestK:\n    def test_m(self):\n        assert 0\n\n"
        "@pytest.mark.parametrize('x', [1, 'a/b.c'])\ndef test_p(x):\n    assert x == 1\n"
    )
    line, env = asked(command("pytest", f"{sys.executable} -m pytest -q -p no:cacheprovider"), str(tmp_path))
    env |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(line.split(), cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    report = (tmp_path / report_of(command("pytest"))).read_bytes()
    reading = read(command("pytest"), ended(done.returncode, done.stdout), report)
    assert (
        reading.failing
        == words(done.stdout).failing
        == ("tests/test_a.py::TestK::test_m", "tests/test_a.py::test_p[a/b.c]")
    )
    assert reading.passing == ("tests/test_a.py::test_p[1]",)


@pytest.mark.parametrize("runner", ["vitest", "jest"])
def test_a_report_of_javascript_tests_names_file_suite_and_test(runner: Runner) -> None:
    reading = read(command(runner), ended(1), json.dumps(VITEST).encode(), ROOT)
    assert reading.failing == ("src/a.test.js > sum > fails", "src/b.test.js")
    assert reading.passing == (
        "src/a.test.js > sum > adds",
        "src/a.test.js > sum > deep > x > y",
        "src/a.test.js > top",
    )
    assert (reading.executed, len(reading.skipped)) == (4, 2)
    elsewhere = read(command(runner), ended(1), json.dumps(VITEST).encode(), "/other")
    assert not any(name.startswith("/") for name in (*elsewhere.failing, *elsewhere.passing))


def test_a_report_of_nodes_runner_names_file_and_nested_tests() -> None:
    reading = read(command("node"), ended(1), NODE.encode(), ROOT)
    assert reading.failing == ("a.test.js > sum > fails", "b.test.js")
    assert reading.passing == ("a.test.js > sum > adds", "a.test.js > top")
    assert (reading.executed, reading.skipped) == (3, ("a.test.js > sum > later",))
    for depth, executed in ((0, 1), (99, None)):
        event = {"how": "pass", "name": "a", "depth": depth, "file": "f"}
        assert read(command("node"), ended(0), json.dumps(event).encode()).executed == executed


@pytest.mark.registry
def test_a_real_node_run_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.test.js").write_text(
        "const {test, describe, it} = require('node:test');\n"
        "describe('sum', () => { it('adds', () => {}); it('fails', () => { throw new Error('x') }) });\n"
    )
    (tmp_path / "b.test.js").write_text("require('no-such-package');\n")
    line, env = asked(command("node", "node --test"), str(tmp_path))
    env["PATH"] = str(Path(shutil.which("node") or "").parent)
    done = subprocess.run(line.split(), cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    if (left := tmp_path / "node-tests.jsonl").exists():
        reading = read(command("node"), ended(done.returncode, done.stdout), left.read_bytes(), str(tmp_path.resolve()))
        assert reading.failing == ("a.test.js > sum > fails", "b.test.js")
        assert reading.passing == ("a.test.js > sum > adds",)
        assert "adds" in done.stdout
    else:
        # A Node from before reporters: it refuses the variable, and the command is run as it is.
        assert refused(command("node", "node --test"), ended(done.returncode, done.stdout + done.stderr), None)


def test_gos_report_names_tests_by_package_and_is_turned_back_into_words() -> None:
    reading = read(command("go"), ended(1), GO.encode())
    assert reading.failing == (
        "example.com/m/a.TestTwo/sub",
        "example.com/m/a.TestTwo",
        "example.com/m/c [build failed]",
    )
    assert (reading.passing, reading.executed) == (("example.com/m/a.TestOne",), 3)
    outcome = shown(command("go", "go test ./..."), ended(1, "warning of the linker\n"), GO.encode())
    assert outcome.command == "go test ./..."
    assert outcome.output.splitlines() == [
        "warning of the linker",
        "# example.com/m/c [example.com/m/c.test]",
        "c/c_test.go:5:2: undefined: nothing",
        "    a_test.go:9: got 1",
        "--- FAIL: TestTwo (0.00s)",
        "FAIL\texample.com/m/a\t0.002s",
        "?   \texample.com/m/b\t[no test files]",
        "FAIL\texample.com/m/c [build failed]",
    ]
    plain = words(outcome.output)
    assert plain.failing == ("example.com/m/a.TestTwo", "example.com/m/c [build failed]")
    assert (plain.executed, plain.whole) == (None, True)


def test_a_go_package_without_tests_beside_one_with_tests_is_not_taken_for_no_tests() -> None:
    said = "?   \texample.com/m/b\t[no test files]\nok  \texample.com/m/a\t0.002s\n"
    assert (words(said).executed, words(said).empty) == (None, False)
    assert words("ok  \texample.com/m/a\t0.002s [no tests to run]\n").empty


def test_a_long_report_of_go_is_shown_with_head_and_tail_only() -> None:
    event = json.dumps({"Action": "output", "Package": "p", "Output": "x" * 99 + "\n"})
    outcome = shown(command("go"), ended(0), "\n".join([event] * 2000).encode())
    assert len(outcome.output) < 65_000
    assert outcome.dropped == 200_000 - 64_000


def test_cargo_names_tests_by_crate_and_file_for_binaries_have_equal_names() -> None:
    reading = words(CARGO, "cargo")
    assert reading.failing == ("demo src/lib.rs: tests::fails",)
    assert reading.passing == (
        "demo src/lib.rs: tests::adds",
        "demo src/lib.rs: tests::panics",
        "demo src/main.rs: tests::adds",
        "demo doc-tests: src/lib.rs - add",
    )
    assert (reading.executed, reading.whole, reading.named) == (5, True, True)
    assert words("error: could not compile `demo` (lib test) due to 1 previous error\n").failing == (
        "demo [build failed]",
    )


def test_cargos_words_with_a_gap_are_not_whole() -> None:
    assert not words(CARGO, "cargo", dropped=True).whole
    assert not words(CARGO.replace("test tests::fails ... FAILED\n", ""), "cargo").whole
    assert not words(CARGO.replace("test result: FAILED. 2 passed; 1 failed;", "signal: 11"), "cargo").whole


def test_unittests_words_name_passing_tests_too() -> None:
    reading = words(UNITTEST, "unittest")
    assert set(reading.failing) == {
        "test_x (test_a.A.test_x)",
        "test_subs (test_a.A.test_subs) (i=1)",
        "test_subs (test_a.A.test_subs)",
        "test_us (test_a.A.test_us)",
    }
    assert reading.passing == (
        "test_doc (test_a.A.test_doc)",
        "test_prints (test_a.A.test_prints)",
        "test_xf (test_a.A.test_xf)",
    )
    assert (reading.executed, reading.whole, reading.named) == (6, True, True)
    torn = words(UNITTEST.replace("noise\nok", "noise ok"), "unittest")
    assert (torn.named, torn.passing, torn.executed) == (False, (), 6)


@pytest.mark.parametrize(
    ("said", "executed"),
    [
        ("Tests:       1 failed, 1 skipped, 1 todo, 3 passed, 6 total\n", 4),
        ("\x1b[2m      Tests \x1b[22m \x1b[1m\x1b[31m1 failed\x1b[39m | 3 passed | 1 skipped (5)\n", 4),
        ("  12 passing (30ms)\n  1 pending\n  2 failing\n", 14),
        ("ℹ tests 8\nℹ suites 2\nℹ pass 4\nℹ fail 2\nℹ cancelled 0\nℹ skipped 1\n", 6),
        ("# tests 3\n# pass 3\n# fail 0\n", 3),
        ("4 failed, 9 passed, 1 skipped, 1 xfailed, 4 errors, 2 subtests passed in 0.75s\n", 14),
    ],
)
def test_numbers_are_read_where_names_are_not(said: str, executed: int) -> None:
    assert words(said).executed == executed


LINES = [
    ("pytest", "", "pytest"),
    ("python3 -m pytest -q", "", "pytest"),
    ("CI=1 .venv/bin/python3.12 -X dev -m pytest tests", "", "pytest"),
    ("uv run --group dev pytest -q", "", "pytest"),
    ("python -m coverage run -m pytest", "", "pytest"),
    ("poetry run coverage run --source a -m unittest discover", "", "unittest"),
    ("python3 -m unittest discover -s tests", "", "unittest"),
    ("npx vitest run", "", "vitest"),
    ("pnpm exec jest", "", "jest"),
    ("yarn vitest run src", "", "vitest"),
    ("npm test", "vitest run", "vitest"),
    ("npm run test -- src/a.test.js", "vitest run --coverage", "vitest"),
    ("pnpm test", "cross-env NODE_ENV=test jest --ci", "jest"),
    ("yarn run test", "node --experimental-vm-modules node_modules/jest/bin/jest.js", "jest"),
    ("npm run test", "c8 node --test --import tsx tests/", "node"),
    ("node --test", "", "node"),
    ("go test ./... -run '^(TestA|TestB)$'", "", "go"),
    ("cargo +nightly test --workspace", "", "cargo"),
    # Not sure.
    ("pytest && npm test", "vitest run", ""),
    ("pytest | tee log", "", ""),
    ("npm test", "eslint . && jest", ""),
    ("npm test", "npm run unit", ""),
    ("npm test", "", ""),
    ("npm test --workspaces", "vitest run", ""),
    ("npm test", "node --test --test-reporter=tap", ""),
    ("npm test", "mocha", ""),
    ("make test", "", ""),
    ("bash scripts/run-tests.sh", "", ""),
    ("python3 run.py -m pytest", "", ""),
    ("cargo nextest run", "", ""),
    ("go vet ./...", "", ""),
    ("echo 'unclosed", "", ""),
    ("", "", ""),
]


@pytest.mark.parametrize(("line", "script", "runner"), LINES)
def test_the_runner_is_told_from_the_command_line_or_not_at_all(line: str, script: str, runner: str) -> None:
    assert runner_of(line, script) == runner


VITEST_MORE = "--reporter=default --reporter=json --outputFile.json=/s/tests.json"


@pytest.mark.parametrize(
    ("runner", "line", "run"),
    [
        ("vitest", "npm test", f"npm test -- {VITEST_MORE}"),
        ("vitest", "npm run test -- a.test.js", f"npm run test -- a.test.js {VITEST_MORE}"),
        ("vitest", "pnpm test", f"pnpm run test {VITEST_MORE}"),
        ("vitest", "yarn run test", f"yarn run test {VITEST_MORE}"),
        ("jest", "npx jest a", "npx jest a --json --outputFile=/s/tests.json"),
        ("go", "go test ./...", "go test -json ./... > /s/go-tests.jsonl"),
        ("go", "go test -json ./...", "go test -json ./... > /s/go-tests.jsonl"),
        ("cargo", "cargo test --workspace -- --nocapture", "cargo test --no-fail-fast --workspace -- --nocapture"),
        ("cargo", "cargo --locked test", "cargo --locked test --no-fail-fast"),
        ("unittest", "python3 -m unittest discover", "python3 -m unittest discover -v"),
    ],
)
def test_runners_are_asked_for_results_by_test(runner: Runner, line: str, run: str) -> None:
    assert asked(command(runner, line), "/s") == (run, {})


@pytest.mark.parametrize("line", ["make test", "pytest && echo done", "bash run-tests.sh"])
def test_pytest_is_asked_by_variable_whatever_starts_it(line: str) -> None:
    variables = {"PYTEST_ADDOPTS": "--junitxml='/s s/junit.xml' -o junit_family=xunit1 --maxfail=0"}
    assert asked(command("", line), "/s s") == (line, variables)
    lint = Command(kind="check", command=line, found_in="Makefile")
    assert asked(lint, "/s") == (line, {})


def test_a_runner_that_refuses_our_request_is_run_again_as_it_is() -> None:
    assert refused(command("pytest"), ended(4, "error: unrecognized arguments: --junitxml=/s/junit.xml"), None)
    assert refused(command("node"), ended(9, "node: --test-reporter= is not allowed in NODE_OPTIONS"), None)
    assert refused(command("go", "go test"), ended(1), None)
    # The controls.
    assert not refused(command("pytest"), ended(1, "1 failed in 0.1s"), None)
    assert not refused(command("pytest"), ended(1, "--junitxml"), b"<testsuites/>")
    assert not refused(command("go", "go test"), ended(127), None)
    assert not refused(command("vitest"), ended(127, "> vitest --outputFile.json=x"), None)


@pytest.mark.parametrize(("runner", "report"), SAMPLES.values(), ids=SAMPLES.keys())
def test_a_report_that_the_exit_code_contradicts_is_not_trusted(runner: Runner, report: bytes) -> None:
    assert read(command(runner), ended(1), report, ROOT).whole
    told = read(command(runner), ended(0, "1 failed, 2 passed in 0.1s\nFAILED a.py::b\n"), report, ROOT)
    assert (told.whole, told.named, told.passing) == (False, False, ())
    passing = b'<testsuites><testcase classname="a" name="b"/></testsuites>'
    said = "FAILED a.py::b\n1 failed in 0.1s\n"
    assert not read(command("pytest"), ended(1, said), passing).whole
    # The control: without the lie the words count.
    assert read(command("pytest"), ended(1, said), None).whole


def test_a_script_that_starts_two_runs_leaves_the_report_of_one_and_is_not_trusted() -> None:
    report = JUNIT.encode()
    once, twice = "1 failed in 0.1s\n", "1 failed in 0.1s\nFAILED a.py::b\n2 failed in 0.1s\n"
    assert read(command(""), ended(1, once), report).whole
    assert not read(command(""), ended(1, twice), report).whole
    assert not words("FAILED a.py::b\n1 failed in 0.1s\nTests: 1 failed, 1 total\n").whole


def test_a_report_that_declares_a_document_type_is_refused() -> None:
    good = '<testsuites><testcase classname="a" name="b"><failure/></testcase></testsuites>'
    assert read(command("pytest"), ended(1), good.encode()).failing == ("a.py::b",)
    laughs = '<!DOCTYPE t [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>'
    for bad in (
        f"{laughs}{good}".encode(),
        f'<?xml version="1.0"?>{laughs}{good}'.encode(),
        f"{laughs}{good}".encode("utf-16"),
    ):
        assert read(command("pytest"), ended(1), bad).failing == ()


@pytest.mark.parametrize("report", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("runner", RUNNERS)
def test_hostile_reports_are_read_without_harm(runner: Runner, report: bytes) -> None:
    reading = read(command(runner), ended(1), report, ROOT)
    "".join((*reading.failing, *reading.passing)).encode()
    shown(command(runner), ended(1), report)


PARTS = st.lists(
    st.sampled_from(
        [
            *(line.encode() for text in (JUNIT, NODE, GO, CARGO, UNITTEST) for line in text.splitlines()),
            json.dumps(VITEST).encode(), b"{", b"}", b"<", b"</testcase>", b"1 passed in 0.1s", b"FAILED a - b",
            b"Ran 9 tests in 1s", b"OK", b"ok  \tp\t0.1s", b"test result: ok. 1 passed; 0 failed;", b"\xff\x00",
        ]
    )
).map(b"\n".join)  # fmt: skip
BYTES = st.one_of(st.binary(), PARTS)


@given(report=st.one_of(st.none(), BYTES), output=BYTES, runner=st.sampled_from(RUNNERS), exit_code=st.integers(1, 255))
@settings(max_examples=300, deadline=None)
@example(report=b"", output=b"1 passed in 0.1s", runner="pytest", exit_code=5)
def test_no_report_and_no_output_makes_a_red_exit_green(
    report: bytes | None, output: bytes, runner: Runner, exit_code: int
) -> None:
    run = command(runner)
    base = baseline(run, ended(0), Reading(3, ("a", "b", "c"), named=True, passed=3))
    bad = shown(run, ended(exit_code, output.decode(errors="replace")), report)
    reading = read(run, bad, report, ROOT)
    assert judge(run, base, bad, reading).verdict == "red"
    for first in (None, base, baseline(run, bad, reading)):
        partial = run.model_copy(update={"partial": True})
        if judge(partial, first, bad, reading).verdict == "green":
            assert first is not None
            assert first.verdict == "red"
            assert set(reading.failing) <= set(first.failing)
            assert reading.failing
    for name in (*reading.failing, *reading.passing, *reading.skipped):
        assert len(name) <= NAME + 8
        assert name.isprintable() or not any(ord(c) < 32 for c in name)
        name.encode()


def test_the_control_a_green_exit_is_seen_as_green() -> None:
    """Else the property above would hold of a judge that calls everything red."""
    run = command("pytest")
    base = baseline(run, ended(0), Reading(3, ("a", "b", "c"), named=True, passed=3))
    report = b'<testsuites><testcase classname="a" name="b"/></testsuites>'
    assert judge(run, base, ended(0), read(run, ended(0), report)).verdict == "green"


def test_a_second_failure_of_one_name_does_not_pass_for_the_first() -> None:
    reading = tally([("a > adds", "failed"), ("a > adds", "failed"), ("a > adds", "passed")])
    assert (reading.failing, reading.passing, reading.executed) == (("a > adds", "a > adds (2)"), (), 3)


def test_long_names_stay_apart_when_they_are_cut() -> None:
    one, two = clean("a" * 300 + "1"), clean("a" * 300 + "2")
    assert one != two
    assert len(one) <= NAME
    assert clean("a\x1b[31m\nb\u202e") == "a[31m b"


@pytest.mark.parametrize(
    "make",
    [
        lambda n: "\n" * n,
        lambda n: "=" * n,
        lambda n: "1 a" * n,
        lambda n: "Running x (" + "/" * n,
        lambda n: "FAILED " + " -" * n,
        lambda n: "a" * n + " (",
        lambda n: "test " + " ... " * n,
        lambda n: "could not connect to server: Connection refused" * (n // 40),
    ],
)
def test_reading_an_output_takes_time_in_proportion_to_its_length(make: Callable[[int], str]) -> None:
    """The suite's time limit is what fails this test: a quadratic pattern takes minutes on 400 kB."""
    run, outcome = command(""), ended(1, make(400_000))
    baseline(run, outcome, read(run, outcome, b"<a/>"))
