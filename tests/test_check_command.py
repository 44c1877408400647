"""`threadwright check`: what a task would see in a repository, without Redis and model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from gitrepos import clone, make_repository
from typer.testing import CliRunner

from bot.__main__ import app

TESTED = {
    "greet.py": "def greet():\n    return 'hello'\n",
    "test_greet.py": (
        "import unittest\nfrom greet import greet\n\n\nclass T(unittest.TestCase):\n"
        "    def test_greets(self):\n        self.assertEqual(greet(), 'hello')\n"
        "    def test_shouts(self):\n        self.assertEqual(greet(), 'HELLO')\n"
    ),
}
GOOD = "[setup]\ncommands = []\n\n[checks]\ntest = 'python3 -m unittest -v test_greet.T.test_greets'\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    return tmp_path


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


def check(home: Path, *words: str, **settings: str) -> Done:
    """The command, in this process: most of its time would be spent on imports."""
    env = {"THREADWRIGHT_HOME": str(home / "data"), "SETUP_NETWORK": "off", "COLUMNS": "200", **settings}
    result = CliRunner().invoke(app, ["check", *words], env=env)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return Done(result.exit_code, result.stdout, result.stderr)


def repository(home: Path, files: dict[str, str]) -> str:
    return str(make_repository(home / "forge" / "greet.git", files))


def test_a_repository_that_needs_nothing_is_told_with_its_commands(home: Path) -> None:
    done = check(home, "--repo", repository(home, {**TESTED, ".threadwright.toml": GOOD}))
    assert done.returncode == 0, done.stderr
    for line in (
        "nothing to install was found",
        ".threadwright.toml: read",
        "test   python3 -m unittest -v test_greet.T.test_greets   (.threadwright.toml)",
        "green, 1 tests",
        "Nothing is missing.",
    ):
        assert line in done.stdout
    assert not (home / "data" / "redis").exists()
    assert list((home / "data" / "work").iterdir()) == []


def test_old_failures_are_named_and_are_not_missing(home: Path) -> None:
    done = check(home, "--repo", repository(home, TESTED), "--json")
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    [baseline] = told["baseline"]
    assert (baseline["verdict"], baseline["executed"]) == ("red", 2)
    assert "test_shouts" in str(baseline["failing"])
    assert "is red already" in str(told["notes"])
    assert told["missing"] == []


def test_a_red_command_that_names_no_tests_is_missing_because_every_task_stops_there(home: Path) -> None:
    files = {**TESTED, "Makefile": "lint:\n\t@echo old.py:1: E501; false\n"}
    done = check(home, "--repo", repository(home, files))
    assert done.returncode == 1
    said = "`make lint` is red and names no tests, so I cannot tell new failures from old ones: every task stops here"
    assert said in done.stdout.partition("Missing:")[2]
    assert "`make lint` is red already" not in done.stdout
    assert "discover` is red already; what fails now is not held against a change" in done.stdout


def test_what_cannot_run_is_missing_and_ends_with_1(home: Path) -> None:
    files = {**TESTED, "requirements.txt": "no-such-package\n", "Makefile": "test:\n\tno-such-runner\n"}
    done = check(home, "--repo", repository(home, files))
    assert done.returncode == 1
    assert "not done (requirements.txt): it needs the network, and SETUP_NETWORK is off here." in done.stdout
    assert "`make test` cannot run here: needs the program no-such-runner." in done.stdout


def test_a_repository_without_tests_is_told_how_to_name_them(home: Path) -> None:
    done = check(home, "--repo", repository(home, {"a.txt": "a"}))
    assert done.returncode == 1
    assert 'No test command was found. Name one in .threadwright.toml: [checks] test = "…"' in done.stdout


def test_a_file_that_is_not_committed_yet_can_be_tried(home: Path) -> None:
    bare = repository(home, TESTED)
    draft = home / "draft.toml"
    draft.write_text(GOOD)
    done = check(home, "--repo", bare, "--file", str(draft))
    assert done.returncode == 0, done.stderr
    assert "green, 1 tests" in done.stdout
    draft.write_text("[checks]\ntset = 'x'\n")
    wrong = check(home, "--repo", bare, "--file", str(draft))
    assert wrong.returncode == 1
    assert "line 2: checks.tset: there is no such key" in wrong.stderr
    assert "Traceback" not in wrong.stderr
    absent = check(home, "--repo", bare, "--file", str(home / "none.toml"))
    assert "none.toml cannot be read" in absent.stderr


def test_services_and_an_image_that_comes_to_nothing_here_are_told(home: Path) -> None:
    said = 'image = "python:3.12"\n' + GOOD + "[services.db]\nstart = 'sleep 99'\nready = 'true'\n"
    done = check(home, "--repo", repository(home, {**TESTED, ".threadwright.toml": said}))
    assert done.returncode == 0, done.stderr
    assert "db: ready" in done.stdout
    assert "image: not used here, where the sandbox is auto; docker and podman use it" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "Which repository? Name it with --repo PATH-or-URL."),
        (("--repo", "/nowhere/at/all"), "does not exist"),
        (("--repo", "/"), "is not a git repository"),
    ],
)
def test_wrong_words_get_a_sentence(home: Path, words: tuple[str, ...], said: str) -> None:
    done = check(home, *words)
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_host_in_the_settings_is_named(home: Path) -> None:
    done = check(home, "--repo", repository(home, TESTED), SETUP_HOSTS="http//x")
    assert done.returncode == 1
    assert "SETUP_HOSTS: 'http//x' is not understood" in done.stderr


def test_a_checkout_is_not_touched(home: Path) -> None:
    bare = Path(repository(home, {**TESTED, ".threadwright.toml": GOOD}))
    checkout = clone(bare, home / "checkout")
    before = sorted(path.name for path in checkout.iterdir())
    assert check(home, "--repo", str(checkout)).returncode in (0, 1)
    assert sorted(path.name for path in checkout.iterdir()) == before
