"""Commands as they run: real runners in a box on a plain folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
from fakes import FakeBox, MemoryJournal
from runnersamples import GO

from graph.comparing import baseline, judge
from graph.errors import Stopped
from graph.ports import Halt, Ports, Rules
from graph.running import Ran, run_all
from graph.values import CheckResult, Command, Limits, Outcome

PYTEST = Command(kind="test", command="python3 -m pytest -q -p no:cacheprovider", found_in="x", runner="pytest")
TWO = "def test_a():\n    pass\n\n\ndef test_b():\n    assert {}\n"


@dataclass
class FewPorts:
    """What running needs of the world."""

    halt: Halt = field(default_factory=Halt)
    rules: Rules = field(default_factory=lambda: Rules(limits=Limits()))
    journal: MemoryJournal = field(default_factory=MemoryJournal)

    def noted(self) -> list[str]:
        return [fields["command"] for kind, fields in self.journal.notes if kind == "command"]


class TimedBox(FakeBox):
    """Keeps the time limits that it was given."""

    limits: dict[str, float | None]

    def run(
        self,
        command: str,
        *,
        timeout: float | None = None,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
    ) -> Outcome:
        self.limits = {**getattr(self, "limits", {}), command: timeout}
        return super().run(command, timeout=timeout, stdin=stdin, env=env)


@pytest.fixture
def box(tmp_path: Path) -> TimedBox:
    (tmp_path / "checkout").mkdir()
    return TimedBox(tmp_path / "checkout", tmp_path)


def run(box: FakeBox, command: Command, ports: FewPorts | None = None) -> Ran:
    (ran,) = run_all(cast("Ports", ports or FewPorts()), box, [command])
    return ran


def test_results_by_test_come_with_the_outcome_and_the_command_reads_as_it_is_called(box: TimedBox) -> None:
    ports = FewPorts()
    (box.checkout / "test_x.py").write_text(TWO.format(0))
    ran = run(box, PYTEST, ports)
    assert (ran.reading.passing, ran.reading.failing) == (("test_x.py::test_a",), ("test_x.py::test_b",))
    assert (ran.outcome.command, ran.outcome.exit) == (PYTEST.command, 1)
    assert ports.noted()[0].startswith("PYTEST_ADDOPTS=")
    assert ports.noted()[0].endswith(PYTEST.command)
    assert len(ports.noted()) == 1


def test_a_makefile_that_starts_pytest_gives_results_by_test_too(box: TimedBox) -> None:
    (box.checkout / "test_x.py").write_text(TWO.format(1))
    (box.checkout / "Makefile").write_text(f"test:\n\t{PYTEST.command}\n")
    ran = run(box, Command(kind="test", command="make test", found_in="Makefile"))
    assert ran.reading.passing == ("test_x.py::test_a", "test_x.py::test_b")


def test_from_base_to_change_tests_are_compared_by_name(box: TimedBox) -> None:
    file = box.checkout / "test_x.py"
    file.write_text(TWO.format(0))
    base = baseline(*run(box, PYTEST))
    file.write_text("def test_b():\n    pass\n")
    ran = run(box, PYTEST)
    result = judge(ran.command, base, ran.outcome, ran.reading)
    assert (result.verdict, result.newly_passing, result.vanished) == (
        "green", ("test_x.py::test_b",), ("test_x.py::test_a",),
    )  # fmt: skip
    assert result.reason == "1 test ran, 2 on the base; gone: test_x.py::test_a"


def test_the_report_of_an_earlier_run_never_counts(box: TimedBox) -> None:
    (box.checkout / "test_x.py").write_text(TWO.format(1))
    assert run(box, PYTEST).reading.executed == 2
    silent = Command(kind="test", command="true", found_in="x")
    assert run(box, silent).reading.executed is None


def test_the_control_a_report_that_is_left_would_count(box: TimedBox) -> None:
    """Else the test above would hold of a runner that reads no report."""
    written = """echo '<testsuites><testcase classname="a" name="b"/></testsuites>' > ../scratch/junit.xml"""
    assert run(box, Command(kind="test", command=written, found_in="x")).reading.passing == ("a.py::b",)


def test_where_an_earlier_report_cannot_be_taken_away_none_counts(
    box: TimedBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    (box.checkout / "test_x.py").write_text(TWO.format(1))
    (box.checkout / "rm").write_text("#!/bin/sh\nexit 1\n")
    (box.checkout / "rm").chmod(0o755)
    monkeypatch.setattr("fakes.ENVIRONMENT", {"BASH_ENV": str(box.checkout / "env")})
    (box.checkout / "env").write_text(f"export PATH={box.checkout}:$PATH\n")
    ran = run(box, PYTEST)
    assert (ran.reading.executed, ran.reading.passing) == (2, ())


def test_a_pytest_without_reports_is_run_again_as_it_is(box: TimedBox) -> None:
    ports = FewPorts()
    (box.checkout / "test_x.py").write_text(TWO.format(0))
    without = PYTEST.model_copy(update={"command": f"{PYTEST.command} -p no:junitxml"})
    ran = run(box, without, ports)
    assert (ran.outcome.exit, ran.outcome.seconds) == (1, 1.0)
    assert (ran.reading.failing, ran.reading.named) == (("test_x.py::test_b",), False)
    assert ports.noted()[1] == without.command


def test_unittest_names_its_tests(box: TimedBox) -> None:
    (box.checkout / "test_x.py").write_text(
        "import unittest\n\n\nclass A(unittest.TestCase):\n    def test_x(self):\n        pass\n"
    )
    line = "python3 -m unittest discover"
    ran = run(box, Command(kind="test", command=line, found_in="x", runner="unittest"))
    assert len(ran.reading.passing) == 1
    assert ran.reading.passing[0].startswith("test_x (test_x.A")
    assert ran.outcome.command == line


def test_gos_report_is_shown_as_words(box: TimedBox) -> None:
    """A stand-in for go, with a sample of its report."""
    (box.checkout / "sample").write_text(GO)
    (box.checkout / "go").write_text('#!/bin/sh\n[ "$2" = -json ] && cat sample && echo linked >&2 && exit 1\n')
    (box.checkout / "go").chmod(0o755)
    ran = run(box, Command(kind="test", command="./go test ./...", found_in="go.mod", runner="go"))
    assert ran.reading.passing == ("example.com/m/a.TestOne",)
    assert ran.outcome.output.startswith("linked\n# example.com/m/c")
    assert "Action" not in ran.outcome.output
    assert ran.outcome.command == "./go test ./..."


def test_limits_are_the_rules_or_the_callers(box: TimedBox) -> None:
    lint = Command(kind="check", command="true", found_in="x")
    test = Command(kind="test", command="exit 0", found_in="x")
    ports = cast("Ports", FewPorts())
    run_all(ports, box, [lint, test])
    assert (box.limits["true"], box.limits["exit 0"]) == (120.0, 600.0)
    run_all(ports, box, [lint, test], lambda command: 7.0 if command.kind == "test" else 3.0)
    assert (box.limits["true"], box.limits["exit 0"]) == (3.0, 7.0)


def test_what_the_stop_killed_has_no_verdict_and_no_note(box: TimedBox) -> None:
    ports = FewPorts()
    box.on_run = lambda line: ports.halt.set() if line == "exit 3" else None
    with pytest.raises(Stopped):
        run_all(cast("Ports", ports), box, [Command(kind="test", command="exit 3", found_in="x")])
    assert ports.noted() == []


def test_a_link_in_the_place_of_the_report_is_taken_away(box: TimedBox) -> None:
    other = box.checkout.parent / "precious"
    other.write_text("kept")
    (Path(box.scratch) / "junit.xml").symlink_to(other)
    (box.checkout / "test_x.py").write_text(TWO.format(1))
    assert run(box, PYTEST).reading.executed == 2
    assert other.read_text() == "kept"


def twice(box: TimedBox, command: Command, before: str, after: str) -> CheckResult:
    """The verdict with a change of test_x.py from `before` to `after`."""
    (box.checkout / "test_x.py").write_text(before)
    base = baseline(*run(box, command))
    (box.checkout / "test_x.py").write_text(after)
    ran = run(box, command)
    return judge(ran.command, base, ran.outcome, ran.reading)


OLD = "def test_a():\n    assert 0\n\n\ndef test_b():\n    assert {}\n"


def test_an_old_failure_does_not_hide_a_new_one_where_pytest_is_set_to_stop_at_the_first(box: TimedBox) -> None:
    (box.checkout / "pytest.ini").write_text("[pytest]\naddopts = -x\n")
    result = twice(box, PYTEST, OLD.format(1), OLD.format(0))
    assert (result.verdict, result.reason) == ("red", "exit code 1; newly failing: test_x.py::test_b")
    assert twice(box, PYTEST, OLD.format(1), OLD.format(1)).verdict == "green"
    stops = PYTEST.model_copy(update={"command": f"{PYTEST.command} -x"})
    assert twice(box, stops, OLD.format(1), OLD.format(0)).verdict == "red"


@pytest.mark.parametrize(("after", "verdict"), [("", "green"), ("; sh e2e.sh; false", "red")])
def test_old_failures_of_a_makefiles_one_runner_are_no_fault_of_the_change(
    box: TimedBox, after: str, verdict: str
) -> None:
    (box.checkout / "Makefile").write_text(f"test:\n\t{PYTEST.command}{after}\n")
    (box.checkout / "e2e.sh").write_text("echo 3 scenarios broken\n")
    made = Command(kind="test", command="make test", found_in="Makefile")
    assert twice(box, made, OLD.format(1), OLD.format(1)).verdict == verdict


def test_a_makefile_that_hides_how_its_tests_end_is_red_with_a_new_failure(box: TimedBox) -> None:
    (box.checkout / "Makefile").write_text(f"test:\n\t{PYTEST.command} | tee log\n")
    made = Command(kind="test", command="make test", found_in="Makefile")
    result = twice(box, made, TWO.format(1), TWO.format(0))
    assert (result.verdict, "test_x.py::test_b" in result.reason) == ("red", True)
    assert twice(box, made, TWO.format(0), TWO.format(0)).verdict == "green"
