"""What the outcomes of checks mean together: for the result, the pull request, and whether ✅ is asked for. Pure, and
light enough for whoever only words it."""

from __future__ import annotations

from collections.abc import Sequence

from graph.values import CheckResult, PullRequest


def red(checks: Sequence[CheckResult]) -> list[CheckResult]:
    return [check for check in checks if check.verdict == "red"]


def not_run(checks: Sequence[CheckResult]) -> list[CheckResult]:
    return [check for check in checks if check.verdict == "not run" and check.command.kind != "format"]


def untested(checks: Sequence[CheckResult]) -> str:
    """Why tests that there are did not run here; "" when they did, or when there are none."""
    tests = [check for check in checks if check.command.kind == "test"]
    if not tests or any(check.verdict != "not run" for check in tests):
        return ""
    return "; ".join(dict.fromkeys(check.reason or "not run" for check in tests))


def not_run_words(checks: Sequence[CheckResult], pull: PullRequest | None) -> list[str]:
    """A sentence on the tests, with who decides instead, and one for each other check that was not run."""
    said = []
    if reason := untested(checks):
        decides = f" {pull.forge}'s checks decide." if pull is not None and pull.has_checks else ""
        said.append(f"Tests not run here: {reason.rstrip('.')}.{decides}")
    others = [check for check in not_run(checks) if check.command.kind != "test"]
    said += [f"`{c.command.command}` was not run here: {(c.reason or 'not run').rstrip('.')}." for c in others]
    return said


def waits_for_checks(pull: PullRequest | None, checks: Sequence[CheckResult]) -> str:
    """Why ✅ is not asked for yet; "" when it is. What could not be tested here, the forge's checks decide, on the very
    commit; a forge without any leaves it to the person."""
    if pull is None or not untested(checks) or not pull.has_checks or pull.checks == "green" or pull.state != "open":
        return ""
    now = {"red": "are red", "pending": "have not ended yet"}.get(pull.checks, "have not begun")
    return (
        f"{pull.forge}'s checks {now} on `{pull.head[:7]}`, and the tests were not run here. "
        "I ask for ✅ once they are green."
    )


def fewer_tests(checks: Sequence[CheckResult]) -> list[str]:
    """Of suites that pass with fewer tests than before, or without some of them: a sentence each."""
    return [f"`{c.command.command}`: {c.fewer}" for c in checks if c.verdict == "green" and c.fewer]


def newly_passing(checks: Sequence[CheckResult]) -> list[str]:
    return sorted({name for check in checks for name in check.newly_passing})


def old_failures(checks: Sequence[CheckResult]) -> list[str]:
    return sorted({name for check in checks for name in check.old_failures})
