"""Finding a repository's commands, through a box."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes import FakeBox
from gitrepos import git

from graph.commands import find

UNITTEST = "import unittest\n\n\nclass A(unittest.TestCase):\n    def test_a(self):\n        pass\n"
PYTEST = "def test_a():\n    pass\n"
MAKEFILE = ".PHONY: fmt lint test\nX := 1\nfmt:\n\ttrue\nlint: fmt\n\ttrue\ntest:\n\ttrue\n"


def found(folder: Path, files: dict[str, str]) -> dict[str, tuple[str, str]]:
    git(folder, "init", "-q")
    box = FakeBox(folder, folder)
    for name, text in files.items():
        box.write(name, text.encode())
    return {command.kind: (command.command, command.found_in) for command in find(box)}


def test_scripts_of_the_repository_come_first(tmp_path: Path) -> None:
    scripts = {f"src/scripts/{name}.sh": "true\n" for name in ("format", "code-checks", "run-tests")}
    assert found(tmp_path, {**scripts, "Makefile": MAKEFILE}) == {
        "format": ("bash src/scripts/format.sh", "src/scripts/format.sh"),
        "check": ("bash src/scripts/code-checks.sh", "src/scripts/code-checks.sh"),
        "test": ("bash src/scripts/run-tests.sh", "src/scripts/run-tests.sh"),
    }


def test_then_targets_of_the_makefile_and_only_those_that_exist(tmp_path: Path) -> None:
    made = found(tmp_path, {"Makefile": MAKEFILE, "package.json": '{"scripts": {"test": "jest"}}'})
    assert made == {k: (f"make {t}", "Makefile") for k, t in (("format", "fmt"), ("check", "lint"), ("test", "test"))}


def test_each_kind_is_looked_for_further_on(tmp_path: Path) -> None:
    makefile = "check:\n\ttrue\ntest = nothing\nlatest:\n\ttrue\n"
    assert found(tmp_path, {"Makefile": makefile, "go.mod": "module a\n", "pytest.ini": ""}) == {
        "check": ("make check", "Makefile"),
        "test": ("python3 -m pytest -q", "pytest.ini"),
    }


@pytest.mark.parametrize(
    ("files", "command", "where"),
    [
        ({"pyproject.toml": "[tool.pytest.ini_options]\n"}, "python3 -m pytest -q", "pyproject.toml"),
        ({"pyproject.toml": '[dependency-groups]\ndev = ["pytest>=8"]\n'}, "python3 -m pytest -q", "pyproject.toml"),
        ({"pyproject.toml": "[project]\n", "tests/test_a.py": PYTEST}, "python3 -m pytest -q", "tests/"),
        ({"tests/test_a.py": UNITTEST}, "python3 -m unittest discover -s tests", "tests/"),
        ({"tests/__init__.py": "", "tests/test_a.py": UNITTEST}, "python3 -m unittest discover", "tests/"),
        ({"test_a.py": UNITTEST}, "python3 -m unittest discover", "the test files"),
        ({"a_test.py": UNITTEST}, "python3 -m unittest discover -p '*_test.py'", "the test files"),
        ({"requirements-dev.txt": "pytest==8\n"}, "python3 -m pytest -q", "requirements-dev.txt"),
        ({"setup.cfg": "[tool:pytest]\n"}, "python3 -m pytest -q", "setup.cfg"),
        ({"pyproject.toml": "[not toml", "test_a.py": UNITTEST}, "python3 -m unittest discover", "the test files"),
        ({"Cargo.toml": "[package]\n"}, "cargo test", "Cargo.toml"),
        ({"go.mod": "module a\n"}, "go test ./...", "go.mod"),
    ],
)
def test_one_command_for_each_kind_of_repository(
    tmp_path: Path, files: dict[str, str], command: str, where: str
) -> None:
    assert found(tmp_path, files) == {"test": (command, where)}


def test_scripts_of_package_json_but_not_the_placeholder(tmp_path: Path) -> None:
    scripts = {"lint": "eslint .", "format": "prettier -w .", "test": 'echo "Error: no test specified" && exit 1'}
    made = found(tmp_path, {"package.json": json.dumps({"scripts": scripts}), "yarn.lock": ""})
    assert made == {"format": ("yarn run format", "package.json"), "check": ("yarn run lint", "package.json")}


@pytest.mark.parametrize("files", [{}, {"README.md": "x"}, {"package.json": "[1"}, {"package.json": "[]"}])
def test_a_repository_without_commands_has_none(tmp_path: Path, files: dict[str, str]) -> None:
    assert found(tmp_path, files) == {}


def test_the_unittest_commands_really_find_the_tests(tmp_path: Path) -> None:
    for number, files in enumerate(
        ({"tests/test_a.py": UNITTEST}, {"tests/__init__.py": "", "tests/test_a.py": UNITTEST}, {"a_test.py": UNITTEST})
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        command, _ = found(folder, files)["test"]
        assert "Ran 1 test" in FakeBox(folder, folder).run(command).output
