"""Sample repositories with true manifests, installed from the real registries: `make test-setup`, not `make test`."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rooms import House, Room, by_role, call, done, plan, write

pytestmark = [pytest.mark.registry, pytest.mark.timeout(600)]
PATIENCE = 300.0

UV = {
    "pyproject.toml": (
        '[project]\nname = "sizes"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["humanize>=4"]\n\n'
        '[dependency-groups]\ndev = ["pytest>=8"]\n\n[build-system]\nrequires = ["hatchling"]\n'
        'build-backend = "hatchling.build"\n\n[tool.hatch.build.targets.wheel]\npackages = ["src/sizes"]\n'
    ),
    "src/sizes/__init__.py": ("import humanize\n\n\ndef size(number):\n    return humanize.naturalsize(number)\n"),
    "tests/test_sizes.py": 'from sizes import size\n\n\ndef test_size():\n    assert size(1000) == "1.0 kB"\n',
}
BETTER = 'import humanize\n\n\ndef size(number):\n    """In words."""\n    return humanize.naturalsize(number)\n'
NODE = {
    "package.json": json.dumps(
        {
            "name": "waits",
            "version": "1.0.0",
            "type": "module",
            "scripts": {"test": "vitest run"},
            "dependencies": {"ms": "^2.1.3"},
            "devDependencies": {"vitest": "^2"},
        }
    ),
    "waits.js": 'import ms from "ms";\nexport const wait = (text) => ms(text);\n',
    "test/waits.test.js": (
        'import { expect, test } from "vitest";\nimport { wait } from "../waits.js";\n'
        'test("waits", () => {\n  expect(wait("1s")).toBe(1000);\n});\n'
    ),
    ".gitignore": "node_modules\n",
}
POETRY = {
    **UV,
    "pyproject.toml": (
        '[project]\nname = "sizes"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["humanize>=4"]\n\n'
        '[tool.poetry]\npackages = [{ include = "sizes", from = "src" }]\n\n'
        '[tool.poetry.group.test]\noptional = true\n\n[tool.poetry.group.test.dependencies]\npytest = ">=8"\n\n'
        # As a mirror is named; of its own default poetry asks pages that mirrors do not serve.
        '[[tool.poetry.source]]\nname = "mirror"\nurl = "https://pypi.org/simple/"\npriority = "primary"\n\n'
        '[build-system]\nrequires = ["poetry-core"]\nbuild-backend = "poetry.core.masonry.api"\n'
    ),
}
POETRY_1 = {
    **UV,
    "pyproject.toml": (
        # No package: poetry 2 would not install this.
        '[tool.poetry]\nname = "sized"\nversion = "1"\ndescription = ""\nauthors = []\n\n'
        '[tool.poetry.dependencies]\npython = ">=3.11"\nhumanize = ">=4"\n\n'
        '[tool.poetry.group.dev.dependencies]\npytest = ">=8"\n\n'
        '[[tool.poetry.source]]\nname = "mirror"\nurl = "https://pypi.org/simple/"\npriority = "primary"\n\n'
        '[tool.pytest.ini_options]\npythonpath = ["src"]\n'
    ),
}
PDM = {
    **UV,
    "pyproject.toml": UV["pyproject.toml"].replace(
        "[build-system]", "[project.optional-dependencies]\ntest = []\n\n[build-system]"
    ),
}
WAITS = 'import ms from "ms";\n// Milliseconds.\nexport const wait = (text) => ms(text);\n'


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    root = tmp_path_factory.mktemp("street")
    for folder in (root, root.parent, root.parent.parent):
        folder.chmod(0o755)
    house = House(root, setup_network=True, setup_timeout=PATIENCE, path=os.environ["PATH"])
    yield house
    house.close()


def locked(folder: Path, files: dict[str, str], *command: str) -> dict[str, str]:
    """The same files with the lock file that the tool itself makes of them."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=PATIENCE)
    made = [path for path in folder.iterdir() if path.is_file() and path.name not in files]
    return {**files, **{path.name: path.read_text() for path in made}}


def story(path: str, text: str) -> Any:
    return by_role([plan("docs: say what it does"), write(path, text), done()])


def setups(room: Room) -> list[dict[str, Any]]:
    return [entry.data for _, entry in room.desk.events(room.task) if entry.kind == "setup"]


def tell(house: House, files: dict[str, str], path: str, text: str) -> None:
    """From words to a pull request, twice: the second time finds everything installed."""
    first = house.room(files, story(path, text))
    first.start()
    first.until("watching", patience=PATIENCE)
    assert setups(first)[0]["failed"] == "", first.said("notice")
    assert "green, exit 0" in first.said("result")[0]
    assert first.git("diff", "--name-only", "main", f"threadwright/{first.task}") == path
    second = house.room(script=story(path, f"{text}\n"), name=first.repository)
    second.start()
    second.until("watching", patience=PATIENCE)
    assert setups(second)[0]["reused"] is True
    assert "green, exit 0" in second.said("result")[0]


def uv() -> str:
    from sys import executable

    return str(Path(executable).with_name("uv"))


def test_a_uv_project_goes_from_words_to_pull_request(street: House, tmp_path: Path) -> None:
    tell(street, locked(tmp_path, UV, uv(), "lock", "--quiet"), "src/sizes/__init__.py", BETTER)


def tool(what: str, name: str) -> tuple[str, ...]:
    return (uv(), "tool", "run", "--quiet", "--from", what, name)


def test_a_poetry_project_goes_from_words_to_pull_request(street: House, tmp_path: Path) -> None:
    files = locked(tmp_path, POETRY, *tool("poetry>=2,<3", "poetry"), "lock")
    tell(street, files, "src/sizes/__init__.py", BETTER)


@pytest.mark.thorough
def test_a_project_that_poetry_1_locked_goes_from_words_to_pull_request(street: House, tmp_path: Path) -> None:
    files = locked(tmp_path, POETRY_1, *tool("poetry>=1.8,<2", "poetry"), "lock")
    tell(street, files, "src/sizes/__init__.py", BETTER)


def test_a_pdm_project_goes_from_words_to_pull_request(street: House, tmp_path: Path) -> None:
    files = locked(tmp_path, PDM, *tool("pdm[locked]", "pdm"), "lock")
    del files[".pdm-python"]
    tell(street, files, "src/sizes/__init__.py", BETTER)


def test_an_npm_project_with_vitest_goes_from_words_to_pull_request(street: House, tmp_path: Path) -> None:
    files = locked(tmp_path, NODE, "npm", "install", "--silent", "--package-lock-only")
    tell(street, files, "waits.js", WAITS)


def test_a_pnpm_project_goes_from_words_to_pull_request(street: House, tmp_path: Path) -> None:
    command = ("npx", "--yes", "pnpm@10", "install", "--lockfile-only", "--silent")
    tell(street, locked(tmp_path, NODE, *command), "waits.js", WAITS)


def test_a_project_with_a_manifest_only_is_installed_with_what_its_tests_need(street: House) -> None:
    manifest = UV["pyproject.toml"].replace("[dependency-groups]\n", "[project.optional-dependencies]\n")
    tell(street, {**UV, "pyproject.toml": manifest}, "src/sizes/__init__.py", BETTER)


LOCKED: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "uv.lock": (UV, (uv(), "lock", "--quiet")),
    "poetry.lock": (POETRY, (*tool("poetry>=2,<3", "poetry"), "lock")),
    "pdm.lock": (PDM, (*tool("pdm[locked]", "pdm"), "lock")),
}


@pytest.mark.parametrize(
    "lock", [name if name == "uv.lock" else pytest.param(name, marks=pytest.mark.thorough) for name in LOCKED]
)
def test_a_dependency_that_the_change_adds_is_locked_and_installed(street: House, tmp_path: Path, lock: str) -> None:
    manifest, command = LOCKED[lock]
    files = locked(tmp_path, manifest, *command)
    files.pop(".pdm-python", "")
    script = by_role(
        [
            plan("feat: sizes in tables"),
            call("edit_file", path="pyproject.toml", old='"humanize>=4"', new='"humanize>=4", "iniconfig>=2"'),
            call("setup"),
            write("tests/test_ini.py", "import iniconfig\n\n\ndef test_ini():\n    assert iniconfig.IniConfig\n"),
            done(),
        ]
    )
    room = street.room(files, script)
    room.start()
    room.until("watching", patience=PATIENCE)
    changed = room.git("diff", "--name-only", "main", f"threadwright/{room.task}").splitlines()
    assert changed == sorted(["pyproject.toml", "tests/test_ini.py", lock])
    assert "green, exit 0" in room.said("result")[0]
