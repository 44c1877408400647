"""How a repository's packages are installed, by its lock files and manifests."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes import FakeBox
from gitrepos import clone, make_repository

from graph import recipes
from graph.installing import shown
from graph.project import Setup

PROJECT = '[project]\nname = "x"\nversion = "1"\n'


def found(folder: Path, files: dict[str, str], *, pytest_wanted: bool = False, setup: Setup | None = None) -> list[str]:
    """The commands as people are shown them; the place first."""
    bare = make_repository(folder / "x.git", files)
    box = FakeBox(clone(bare, folder / "checkout"), bare)
    recipe = recipes.find(box, setup or Setup(), pytest=pytest_wanted)
    return [] if recipe is None else [recipe.found_in, *map(shown, recipe.commands)]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"uv.lock": "", "pyproject.toml": PROJECT}, ["uv.lock", "get uv where it is missing", "uv sync --frozen"]),
        (
            {
                "uv.lock": "",
                "pyproject.toml": PROJECT
                + "[project.optional-dependencies]\ntest = []\ndocs = []\n[dependency-groups]\ndev = []\nlint = []\n",
            },
            ["uv.lock", "get uv where it is missing", "uv sync --frozen --extra test --group dev"],
        ),
        (
            {"poetry.lock": "", "pyproject.toml": "[tool.poetry.group.test.dependencies]\n[tool.poetry.group.docs]\n"},
            [
                "poetry.lock",
                "get poetry where it is missing",
                "python3 -m venv",
                "poetry install --no-interaction --with test",
            ],
        ),
        (
            {"pdm.lock": "", "pyproject.toml": PROJECT + "[dependency-groups]\ntest = []\n"},
            [
                "pdm.lock",
                "get pdm where it is missing",
                "python3 -m venv",
                "pdm install --frozen-lockfile --group test",
            ],
        ),
        (
            {"requirements.txt": "x\n", "requirements-dev.txt": "y\n"},
            [
                "requirements.txt, requirements-dev.txt",
                "python3 -m venv",
                "python -m pip install -r requirements.txt -r requirements-dev.txt",
            ],
        ),
        (
            {"pyproject.toml": PROJECT + 'dependencies = ["a"]\n[project.optional-dependencies]\ntests = []\n'},
            ["pyproject.toml", "python3 -m venv", "python -m pip install -e '.[tests]'"],
        ),
        ({"setup.py": ""}, ["setup.py", "python3 -m venv", "python -m pip install -e ."]),
        ({"package.json": "{}", "package-lock.json": "{}"}, ["package-lock.json", "npm ci"]),
        (
            {"package.json": '{"devDependencies": {"a": "1"}}'},
            ["package.json", "npm install --no-package-lock"],
        ),
        (
            {"package.json": "{}", "pnpm-lock.yaml": "lockfileVersion: '6.0'\n"},
            ["pnpm-lock.yaml", "get pnpm@8 where pnpm is missing", "pnpm install --frozen-lockfile"],
        ),
        (
            {
                "package.json": '{"packageManager": "pnpm@9.1.0+sha256.abc"}',
                "pnpm-lock.yaml": "lockfileVersion: '9.0'\n",
            },
            ["pnpm-lock.yaml", "get pnpm@9.1.0 where pnpm is missing", "pnpm install --frozen-lockfile"],
        ),
        (
            {"package.json": "{}", "yarn.lock": "# yarn lockfile v1\n"},
            ["yarn.lock", "get yarn@1 where yarn is missing", "yarn install --non-interactive --frozen-lockfile"],
        ),
        (
            {"package.json": '{"packageManager": "yarn@4.5.1"}', "yarn.lock": "__metadata:\n"},
            ["yarn.lock", "get @yarnpkg/cli-dist@4.5.1 where yarn is missing", "yarn install --immutable"],
        ),
        ({"go.mod": "module x\n\nrequire a.b/c v1.0.0\n"}, ["go.mod", "go mod download"]),
        (
            {"Cargo.toml": "[package]\nname = 'x'\n\n[dependencies]\na = '1'\n", "Cargo.lock": ""},
            ["Cargo.toml", "cargo fetch --locked"],
        ),
        (
            {"package.json": "{}", "package-lock.json": "{}", "requirements.txt": "x\n"},
            [
                "requirements.txt, package-lock.json",
                "python3 -m venv",
                "python -m pip install -r requirements.txt",
                "npm ci",
            ],
        ),
    ],
)
def test_set_up_goes_by_lock_file_and_else_by_manifest(
    tmp_path: Path, files: dict[str, str], expected: list[str]
) -> None:
    assert found(tmp_path, files) == expected


@pytest.mark.parametrize(
    "files",
    [
        {"a.py": ""},
        {"pyproject.toml": PROJECT},
        {"pyproject.toml": "this is not TOML ["},
        {"package.json": '{"scripts": {"test": "node --test"}}'},
        {"package.json": "[]"},
        {"go.mod": "module x\n\ngo 1.22\n"},
        {"Cargo.toml": "[package]\nname = 'x'\n"},
    ],
)
def test_a_repository_that_needs_nothing_has_no_set_up(tmp_path: Path, files: dict[str, str]) -> None:
    assert found(tmp_path, files) == []


def test_own_commands_go_before_lock_files_and_an_empty_list_is_no_set_up(tmp_path: Path) -> None:
    files = {"uv.lock": "", "pyproject.toml": PROJECT}
    own = Setup(commands=("make deps", "pip install x"))
    assert found(tmp_path / "a", files, setup=own) == [
        ".threadwright.toml", "python3 -m venv", "make deps", "pip install x",
    ]  # fmt: skip
    assert found(tmp_path / "b", files, setup=Setup(commands=("make deps",))) == [".threadwright.toml", "make deps"]
    assert found(tmp_path / "c", files, setup=Setup(commands=())) == []


def test_pytest_is_installed_where_the_tests_want_it_and_no_manifest_names_it(tmp_path: Path) -> None:
    commands = found(tmp_path, {"requirements.txt": "x\n"}, pytest_wanted=True)
    assert commands[-1] == "get pytest where it is missing"


def test_names_in_a_manifest_cannot_become_commands(tmp_path: Path) -> None:
    text = PROJECT + '[project.optional-dependencies]\n"test; touch /tmp/x" = []\n"$(id)" = []\ntest = []\n'
    package = '{"packageManager": "pnpm@1; touch /tmp/x", "dependencies": {"a": "1"}}'
    files = {"pyproject.toml": text, "package.json": package, "pnpm-lock.yaml": "lockfileVersion: '9; id'\n"}
    bare = make_repository(tmp_path / "x.git", files)
    recipe = recipes.find(FakeBox(clone(bare, tmp_path / "checkout"), bare), Setup(), pytest=False)
    assert recipe is not None
    lines = "\n".join((*recipe.commands, *recipe.refresh))
    assert "touch" not in lines
    assert "$(id)" not in lines
    assert "9; id" not in lines
