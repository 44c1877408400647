"""Which tests a step touched, asked of real checkouts in a real box."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from boxes import make_mirror, make_sandbox, make_workspace
from hypothesis import given, settings
from hypothesis import strategies as st

from graph import surveying, touching
from graph.importing import Imports
from graph.narrowing import narrowed
from graph.surveying import Survey, survey
from graph.touching import filled, step_command, touched_tests
from graph.values import Command, Runner
from integrations.sandbox import ShellBox

Opener = Callable[..., ShellBox]
TEST = "def test_x():\n    pass\n"

SRC = {
    "src/shop/__init__.py": "from .rates import convert\n",
    "src/shop/rates.py": "def convert(): ...\n",
    "src/shop/orders/__init__.py": "",
    "src/shop/orders/cart.py": "from ..rates import (\n    # the one\n    convert as c,\n    other,\n)\n",
    "src/shop/orders/till.py": "from . import cart\n",
    "src/shop/colours.py": "",
    "tests/conftest.py": "from helpers import made\n",
    "tests/helpers.py": "",
    "tests/test_rates.py": TEST,
    "tests/deep/test_rates_of_old.py": TEST,
    "tests/test_till.py": "import shop.orders.till as till, json\n",
    "tests/test_front.py": "from shop import convert\n",
    "tests/test_many.py": "from shop.orders import \\\n    cart\n",
    "tests/test_paint.py": "from shop import colours\n",
    "tests/test_other.py": "import json\nWORDS = 'import shop.rates'\n",
}


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opener]:
    boxes: list[ShellBox] = []

    def open_box(files: dict[str, Any], prepare: Callable[[Path], Any] | None = None) -> ShellBox:
        folder = tmp_path / str(len(boxes))
        data = {name: text.encode() if isinstance(text, str) else text for name, text in files.items()}
        mirror, commit = make_mirror(folder, data, prepare)
        for above in (folder, *tmp_path.parents[:3], tmp_path):
            if above.owner() == tmp_path.owner() and above != Path("/"):
                above.chmod(above.stat().st_mode | 0o055)
        boxes.append(make_sandbox(folder).open(make_workspace(folder, mirror, commit)))
        return boxes[-1]

    yield open_box
    for box in boxes:
        box.close()


def suite(command: str, runner: Runner) -> Command:
    return Command(kind="test", command=command, found_in="a file", runner=runner)


def line_of(box: ShellBox, command: str, runner: Runner, *changed: str) -> str | None:
    found = step_command(box, suite(command, runner), "", changed)
    assert found is None or (found.partial and found.kind == "test" and found.runner == runner)
    return found.command if found else None


# ---- which tests


def test_tests_of_a_module_are_found_by_name_by_import_and_by_way_of_other_modules(opened: Opener) -> None:
    box = opened(SRC)
    assert touched_tests(box, ["src/shop/rates.py"]) == [
        "tests/deep/test_rates_of_old.py",
        "tests/test_front.py",
        "tests/test_many.py",
        "tests/test_rates.py",
        "tests/test_till.py",
    ]
    assert touched_tests(box, ["src/shop/orders/till.py"]) == ["tests/test_till.py"]
    assert touched_tests(box, ["src/shop/colours.py"]) == ["tests/test_paint.py"]


def test_a_changed_test_is_its_own_and_what_nothing_uses_touches_nothing(opened: Opener) -> None:
    box = opened(SRC)
    assert touched_tests(box, ["tests/test_other.py"]) == ["tests/test_other.py"]
    assert touched_tests(box, ["README.md"]) == []
    assert touched_tests(box, []) == []


def test_a_package_itself_touches_all_that_import_from_inside_it(opened: Opener) -> None:
    """Its first file runs with each of them; what that file imports for others is not counted against them."""
    box = opened(SRC)
    found = touched_tests(box, ["src/shop/__init__.py"])
    assert {"tests/test_till.py", "tests/test_front.py", "tests/test_paint.py"} <= set(found)
    assert "tests/test_other.py" not in found


def test_a_conftest_touches_the_tests_below_it_and_so_does_what_it_takes_from_helpers(opened: Opener) -> None:
    every = sorted(path for path in SRC if "/test_" in path)
    box = opened({**SRC, "tests/deep/conftest.py": "", "tests/deep/fixtures/a.json": "{}"})
    assert touched_tests(box, ["tests/conftest.py"]) == every
    assert touched_tests(box, ["tests/helpers.py"]) == every
    assert touched_tests(box, ["tests/deep/conftest.py"]) == ["tests/deep/test_rates_of_old.py"]
    assert touched_tests(box, ["tests/deep/fixtures/a.json"]) == ["tests/deep/test_rates_of_old.py"]


def test_a_conftest_that_imports_the_program_does_not_make_every_change_touch_every_test(opened: Opener) -> None:
    box = opened({**SRC, "tests/conftest.py": "from shop import colours\n"})
    assert touched_tests(box, ["src/shop/colours.py"]) == ["tests/test_paint.py"]


def test_imports_are_followed_three_deep_and_no_deeper(opened: Opener) -> None:
    chain = {f"m{n}.py": f"import m{n - 1}\n" for n in range(1, 4)}
    box = opened({"m0.py": "", **chain, "test_near.py": "import m2\n", "test_far.py": "import m3\n"})
    assert touched_tests(box, ["m0.py"]) == ["test_near.py"]
    assert touched_tests(box, ["m1.py"]) == ["test_far.py", "test_near.py"]


def test_an_import_in_parentheses_ends_where_its_names_end(opened: Opener) -> None:
    many = (
        "from pkg import (  # some\n    one,\n    # of them\n    # all\n    two as t, three\n)\nX = [\n    four,\n]\n"
    )
    late = "from pkg import (\n    one,\n)\n\n\ndef f():\n    five\n"
    names = ("one", "two", "three", "four", "five")
    box = opened({**{f"pkg/{name}.py": "" for name in names}, "test_a.py": many, "test_b.py": late})
    for name in ("two", "three"):
        assert touched_tests(box, [f"pkg/{name}.py"]) == ["test_a.py"]
    assert touched_tests(box, ["pkg/one.py"]) == ["test_a.py", "test_b.py"]
    assert touched_tests(box, ["pkg/five.py"]) == []


def test_deleted_and_renamed_files_touch_the_tests_that_still_import_them(opened: Opener) -> None:
    box = opened(SRC)
    box.run("git mv src/shop/colours.py src/shop/paints.py; rm tests/test_rates.py src/shop/rates.py")
    changed = ["src/shop/colours.py", "src/shop/paints.py", "tests/test_rates.py"]
    assert touched_tests(box, changed) == ["tests/test_paint.py"]
    assert "tests/test_front.py" in touched_tests(box, ["src/shop/rates.py"])
    # One that nobody has added to git counts, and one that is ignored does not.
    box.run("echo 'import shop.paints' > tests/test_new.py; cp tests/test_new.py tests/test_left.py")
    box.run("echo test_left.py > tests/.gitignore")
    assert touched_tests(box, ["src/shop/paints.py"]) == ["tests/test_new.py"]


def test_tests_beside_their_modules_and_other_ways_to_name_them_are_found(opened: Opener) -> None:
    box = opened(
        {
            "app/rates.py": "",
            "app/rates_test.py": TEST,
            "app/tests/test_rates2.py": TEST,
            "app/tests/test_rather.py": TEST,
            "app/io.py": "",
            "tests/test_io_errors.py": TEST,
            "tests/test_iolanthe.py": TEST,
            "web/rates.test.ts": "",
        }
    )
    assert touched_tests(box, ["app/rates.py"]) == ["app/rates_test.py", "app/tests/test_rates2.py"]
    assert touched_tests(box, ["app/io.py"]) == ["tests/test_io_errors.py"]


SCRIPTS = {
    "package.json": '{"scripts": {"test": "vitest run"}}',
    "src/money/rates.ts": "export const x = 1\n",
    "src/money/index.ts": "export * from './rates.js'\n",
    "src/pages/page.tsx": "import {\n  x,\n} from '../money'\n",
    "src/pages/page.test.tsx": "import { Page } from './page'\n",
    "src/pages/late.test.tsx": "test('x', async () => { await import('./page') })\n",
    "src/pages/alias.spec.mts": "import { x } from '@/money/rates'\n",
    "src/pages/far.test.js": "const other = require('../other')\n",
    "src/money/__tests__/rates.js": "",
    "src/money/rates.spec.js": "",
    "src/other/index.cjs": "",
}


def test_tests_of_typescript_are_found_by_name_through_index_files_and_by_late_imports(opened: Opener) -> None:
    box = opened(SCRIPTS)
    assert touched_tests(box, ["src/money/rates.ts"]) == [
        "src/money/__tests__/rates.js",
        "src/money/rates.spec.js",
        "src/pages/alias.spec.mts",
        "src/pages/late.test.tsx",
        "src/pages/page.test.tsx",
    ]
    assert touched_tests(box, ["src/other/index.cjs"]) == ["src/pages/far.test.js"]


GO = {
    "go.mod": "module example.com/shop\n\ngo 1.22\n",
    "main.go": 'package main\n\nimport "example.com/shop/web"\n',
    "rates/rates.go": "package rates\n",
    "rates/rates_test.go": "package rates\n",
    "rates/testdata/a.txt": "",
    "web/web.go": 'package web\n\nimport (\n\t"fmt"\n\tr "example.com/shop/rates" // money\n)\n',
    "web/web_test.go": "package web\n",
    "log/log.go": "package log\n",
    "log/log_test.go": 'package log\n\nimport _ "example.com/shop/web"\n',
    "apart/go.mod": "module example.com/apart\n",
    "apart/a.go": 'package apart\n\nimport "example.com/shop/rates"\n',
    "apart/a_test.go": "package apart\n",
}


def test_a_package_of_go_touches_its_tests_and_those_of_packages_that_import_it(opened: Opener) -> None:
    box = opened(GO)
    assert line_of(box, "go test ./...", "go", "rates/rates.go") == "go test ./log ./rates ./web"
    assert line_of(box, "go test -race -run Fast ./...", "go", "log/log.go") == "go test -race -run Fast ./log"
    assert line_of(box, "go test ./web/...", "go", "rates/rates.go") == "go test ./web"
    assert line_of(box, "go test ./...", "go", "rates/testdata/a.txt") == "go test ./rates"
    # Another module is none of `./...`.
    assert line_of(box, "go test ./...", "go", "apart/a.go") is None
    assert line_of(box, "go test ./...", "go", "go.mod", "log/log.go") is None
    assert line_of(box, "go test", "go", "log/log.go") is None


def crate(name: str, more: str = "") -> str:
    return f'[package]\nname = "{name}"\nversion = "0.1.0"\nedition = "2021"\n{more}'


CARGO = {
    "Cargo.toml": '[workspace]\nmembers = ["crates/*"]\nresolver = "2"\n',
    "crates/rates/Cargo.toml": crate("shop-rates"),
    "crates/rates/src/lib.rs": "#[test]\nfn rates() {}\n",
    "crates/web/Cargo.toml": crate("web", '[dependencies]\nshop-rates = { path = "../rates" }\n'),
    "crates/web/src/lib.rs": "#[test]\nfn web() {}\n",
    "crates/log/Cargo.toml": crate("log"),
    "crates/log/src/lib.rs": "#[test]\nfn log() {}\n",
    "README.md": "",
}


def test_crates_of_a_workspace_are_tested_with_those_that_depend_on_them(opened: Opener) -> None:
    box = opened(CARGO)
    assert line_of(box, "cargo test", "cargo", "crates/rates/src/lib.rs") == "cargo test -p shop-rates -p web"
    line = "cargo +stable --locked test --workspace --all-features -- --nocapture"
    wanted = "cargo +stable --locked test -p log --all-features -- --nocapture"
    assert line_of(box, line, "cargo", "crates/log/src/lib.rs", "README.md") == wanted
    assert line_of(box, "cargo test", "cargo", "README.md") is None
    assert line_of(box, "cargo test", "cargo", "Cargo.toml") is None
    assert line_of(box, "cargo test -p log", "cargo", "crates/log/src/lib.rs") is None
    single = opened({"Cargo.toml": crate("one"), "src/lib.rs": ""})
    assert line_of(single, "cargo test", "cargo", "src/lib.rs") is None
    odd = opened({**CARGO, "crates/log/Cargo.toml": crate("-Zevil")})
    assert line_of(odd, "cargo test", "cargo", "crates/log/src/lib.rs") is None


# ---- the command


def test_pytest_gets_the_paths_behind_its_options(opened: Opener) -> None:
    box = opened(SRC)
    changed = "src/shop/colours.py"
    assert line_of(box, "python3 -m pytest -q --cov", "pytest", changed) == (
        "python3 -m pytest -q --cov -- tests/test_paint.py"
    )
    # Paths of the line's own would be run besides; where there are some, nothing beyond them is run.
    line = "PYTHONPATH='a b' pytest -m 'not slow' tests -q"
    assert line_of(box, line, "pytest", changed) == "PYTHONPATH='a b' pytest -m 'not slow' -q -- tests/test_paint.py"
    assert line_of(box, "pytest tests/deep", "pytest", changed) is None
    assert line_of(box, "pytest tests/test_paint.py::test_x", "pytest", changed) is None
    found = step_command(box, suite("pytest", "pytest"), "", [changed])
    assert found is not None
    assert found.found_in == "a file, narrowed to what changed"


@pytest.mark.parametrize(
    ("line", "runner"),
    [
        ("make test", "pytest"),
        ("make test", ""),
        ("cd tests && pytest", "pytest"),
        ("pytest -q | tee log", "pytest"),
        ("bash scripts/run-tests.sh", ""),
        ("pytest; ruff check", "pytest"),
    ],
)
def test_a_command_that_hides_its_runner_is_not_narrowed(opened: Opener, line: str, runner: Runner) -> None:
    assert line_of(opened(SRC), line, runner, "src/shop/colours.py") is None


def test_what_every_test_depends_on_is_never_narrowed(opened: Opener) -> None:
    box = opened(SRC)
    assert line_of(box, "pytest", "pytest", "src/shop/colours.py") is not None
    for name in ("pyproject.toml", "uv.lock", "requirements-dev.txt", "web/tsconfig.base.json", "vitest.config.mts"):
        assert line_of(box, "pytest", "pytest", "src/shop/colours.py", name) is None
    assert step_command(box, suite("pytest", "pytest"), "pytest {tests}", ["src/shop/colours.py", "uv.lock"]) is None


def test_a_folder_with_a_configuration_of_its_own_is_left_to_the_whole_suite(opened: Opener) -> None:
    box = opened({**SRC, "tests/pytest.ini": "[pytest]\n"})
    assert line_of(box, "pytest", "pytest", "src/shop/colours.py") is None


def test_too_many_tests_are_the_whole_suite(opened: Opener) -> None:
    many = {f"tests/test_rates_{n}.py": TEST for n in range(touching.MOST_TESTS)}
    box = opened({"rates.py": "", **many})
    assert line_of(box, "pytest", "pytest", "rates.py") is not None
    box.write("tests/test_rates.py", TEST.encode())
    assert line_of(box, "pytest", "pytest", "rates.py") is None


CASE = "import unittest\nimport {0}\n\n\nclass A(unittest.TestCase):\n    def test_x(self):\n        {0}\n"


def test_unittest_gets_the_names_that_discovery_gives(opened: Opener) -> None:
    flat = opened({"rates.py": "", "tests/help.py": "", "tests/test_a.py": "import help\n" + CASE.format("rates")})
    line = line_of(flat, "python3 -m unittest discover -s tests", "unittest", "rates.py")
    assert line == "PYTHONPATH=tests python3 -m unittest -v test_a"
    # The folder is no package: discovery from the root does not go there.
    assert line_of(flat, "python3 -m unittest discover", "unittest", "rates.py") is None
    files = {"rates.py": "", "tests/__init__.py": "", "tests/sub/__init__.py": ""}
    deep = opened({**files, "tests/sub/test_a.py": CASE.format("rates"), "tests/test_b.py": CASE.format("json")})
    line = line_of(deep, "python3 -m unittest discover -b", "unittest", "rates.py")
    assert line == "python3 -m unittest -v -b tests.sub.test_a"
    assert line_of(deep, "python3 -m unittest -q", "unittest", "rates.py") == (
        "python3 -m unittest -q tests.sub.test_a"
    )
    line = line_of(deep, "PYTHONPATH=lib python3 -m unittest discover tests 'test_*.py'", "unittest", "rates.py")
    assert line == "PYTHONPATH=tests:lib python3 -m unittest -v sub.test_a"
    assert line_of(deep, "python3 -m unittest discover -p '*_test.py'", "unittest", "rates.py") is None
    assert line_of(deep, "python3 -m unittest tests.test_b", "unittest", "rates.py") is None


def test_unittest_runs_that_command_and_names_its_tests_as_before(opened: Opener) -> None:
    box = opened({"rates.py": "", "tests/help.py": "", "tests/test_a.py": "import help\n" + CASE.format("rates")})
    whole = box.run("python3 -m unittest discover -v -s tests")
    line = line_of(box, "python3 -m unittest discover -s tests", "unittest", "rates.py")
    assert line is not None
    part = box.run(line)
    assert (whole.exit, part.exit) == (0, 0), part.output
    assert whole.output.splitlines()[0] == part.output.splitlines()[0]


def test_pytest_runs_that_command(tmp_path: Path) -> None:
    odd = "tests/test_it's; $(touch planted) ü.py"
    names = ["-rates_test.py", "@rates_test.py", odd]
    for name in (*names, "tests/test_not.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(TEST)
    line = narrowed("python3 -m pytest -q -p no:cacheprovider", "pytest", names, Survey())
    assert line is not None
    line = line.replace("python3", shlex.quote(sys.executable))
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False, env={})
    assert "3 passed" in done.stdout
    assert not (tmp_path / "planted").exists()
    # pytest takes these for names of tests inside a file.
    assert narrowed("pytest", "pytest", ["test_a[1].py"], Survey()) is None


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("npm test", "npm test -- --run src/pages/far.test.js"),
        ("npm run test -- --coverage", "npm run test -- --coverage --run src/pages/far.test.js"),
        ("CI=1 pnpm test", "CI=1 pnpm run test --run src/pages/far.test.js"),
        ("yarn run test", "yarn run test --run src/pages/far.test.js"),
        ("npx vitest run", "npx vitest run --run src/pages/far.test.js"),
        ("npx vitest run src", "npx vitest run --run src/pages/far.test.js"),
        ("npx vitest run src/money", None),
        ("npx vitest run --root src", None),
        ("npm exec vitest", None),
        ("npm run test --workspace a", None),
    ],
)
def test_vitest_gets_the_paths_as_its_packager_hands_them_on(opened: Opener, line: str, wanted: str | None) -> None:
    assert line_of(opened(SCRIPTS), line, "vitest", "src/other/index.cjs") == wanted


def scripted(runner: Runner, script: str, tests: list[str], files: tuple[str, ...] = (), **more: str) -> str | None:
    return narrowed("npm test", runner, tests, Survey(frozenset({*tests, *files})), {"test": script, **more})


def test_a_script_is_narrowed_only_where_arguments_reach_the_runner() -> None:
    for script in ("vitest run && tsc", "npm run unit", "vitest run src", "jest-runner", "vitest list"):
        assert scripted("vitest", script, ["src/a.test.ts"]) is None
    assert scripted("jest", "jest --ci", ["src/a.test.ts"]) == "npm test -- --runTestsByPath src/a.test.ts"
    jest = "node --experimental-vm-modules node_modules/jest/bin/jest.js"
    assert scripted("jest", jest, ["-a.test.ts"]) == "npm test -- --runTestsByPath ./-a.test.ts"
    # npm's own shell would take that for a pattern.
    assert scripted("jest", "jest", ["app/[q].test.js"]) is None
    direct = narrowed("npx jest", "jest", ["app/[q].test.js"], Survey())
    assert direct == "npx jest --runTestsByPath 'app/[q].test.js'"


def test_node_gets_files_in_place_of_its_own_search() -> None:
    assert scripted("node", "node --test", ["a.test.js", "b.spec.js"]) == "npm test -- a.test.js"
    assert scripted("node", "node --import tsx --test test/", ["test/a.js", "b.test.js"]) == (
        "node --import tsx --test test/a.js"
    )
    assert scripted("node", "node --test test/", ["test/a.js"], pretest="tsc") is None
    globbed = narrowed("node --test 'test/**/*.test.js'", "node", ["test/a.test.js", "a.test.js"], Survey())
    assert globbed == "node --test test/a.test.js"
    assert narrowed("node --test", "node", ["[a].test.js"], Survey()) is None


@pytest.mark.registry
def test_node_runs_that_command(opened: Opener) -> None:
    text = "require('node:test')('{0}', () => require('./{0}'))\n"
    files = {f"{name}.test.js": text.format(name) for name in "ab"}
    box = opened({"a.js": "", "b.js": "", **files, "package.json": '{"scripts": {"test": "node --test"}}'})
    line = line_of(box, "npm test", "node", "a.js")
    assert line == "npm test -- a.test.js"
    done = box.run("node --test a.test.js")
    assert done.exit == 0
    assert "tests 1" in done.output


# ---- the repository's own template


def test_the_template_is_filled_with_what_changed_and_the_tests_of_it(opened: Opener) -> None:
    box = opened(SRC)
    box.run("rm src/shop/rates.py; touch -- '-rf' 'a b.txt'")
    changed = ["src/shop/rates.py", "src/shop/colours.py", "-rf", "a b.txt"]
    template = "echo ${HOME} {a,b} ${files} \\{tests} {files} && pytest {tests}"
    found = step_command(box, suite("make test", ""), template, changed)
    assert found is not None
    assert found.command == (
        "echo ${HOME} {a,b} ${files} \\{tests} src/shop/colours.py ./-rf 'a b.txt' && pytest "
        + " ".join(touched_tests(box, changed))
    )
    assert (found.partial, found.runner, found.found_in) == (True, "", ".threadwright.toml")
    own = step_command(box, suite("make test", ""), "pytest -q {tests}", ["src/shop/colours.py"])
    assert own is not None
    assert (own.command, own.runner) == ("pytest -q tests/test_paint.py", "pytest")
    same = step_command(box, suite("make test", ""), "make quick", ["README.md"])
    assert same is not None
    assert same.command == "make quick"


def test_a_template_without_anything_to_fill_in_gives_nothing(opened: Opener) -> None:
    box = opened(SRC)
    assert step_command(box, suite("make test", ""), "pytest {tests}", ["README.md"]) is None
    assert step_command(box, suite("make test", ""), "ruff check {files}", ["gone.py"]) is None


ODD = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=8) | st.sampled_from(
    ["{tests}", "{files}", "${X}", "it's", '"', "a\nb", "-rf", "$(touch x)", "`x`", "\\", "#", "!", "~", "*", "'\"'"]
)
WORD = st.sampled_from(["a", "'b c'", '"d $e"', "${X}", "{x}", "--n=1", "'it{ }s'", "\\{files}", "{", "f\\ g", "'x$'"])
SLOT = st.sampled_from(["{tests}", "{files}"])


def dashed(name: str) -> str:
    return f"./{name}" if name.startswith("-") else name


@settings(max_examples=300, deadline=None)
@given(st.lists(WORD | SLOT, min_size=1), st.lists(ODD, min_size=1, max_size=4), st.lists(ODD, min_size=1, max_size=4))
def test_whatever_names_are_filled_in_they_are_words_of_their_own(
    words: list[str], files: list[str], tests: list[str]
) -> None:
    line = filled(" ".join(words), files, tests)
    wanted: list[str] = []
    for word in words:
        names = {"{files}": files, "{tests}": tests}.get(word)
        wanted += shlex.split(word) if names is None else [dashed(name) for name in names]
    assert line is not None
    assert shlex.split(line) == wanted


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["sh -c 'printf %s\\\\0 {files}'", 'sh -c "printf %s\\\\\\\\0 {files}"']), st.lists(ODD, min_size=1)
)
def test_between_quotes_names_are_words_of_a_second_shell(template: str, names: list[str]) -> None:
    line = filled(template, names, [])
    if any(set(name) & set("$`\\'\"\n\r") for name in names):
        assert line is None
        return
    assert line is not None
    assert shlex.split(line)[:2] == ["sh", "-c"]
    done = subprocess.run(["sh", "-c", line], capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == [dashed(name) for name in names]


@settings(max_examples=60, deadline=None)
@given(st.lists(ODD, min_size=1, max_size=3))
def test_a_real_shell_sees_the_same_words(names: list[str]) -> None:
    line = filled('printf "%s\\0" {files} # not {files}', names, [])
    assert line is not None
    done = subprocess.run(["sh", "-c", line], capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == [dashed(name) for name in names]


def test_names_filled_in_without_quotes_would_not_be_words_of_their_own() -> None:
    """The control: the property above is lost at once."""
    line = "pytest {files}".replace("{files}", " ".join(["a b", "$(touch x)"]))
    assert shlex.split(line) != ["pytest", "a b", "$(touch x)"]


def test_where_only_a_shell_could_tell_the_quotes_nothing_is_filled_in() -> None:
    for template in (
        'echo "$(pytest {tests})"',
        "echo `pytest {tests}`",
        "cat <<X\n{tests}\nX",
        "echo $'it\\'s' {tests}",
    ):
        assert filled(template, ["a"], ["a"]) is None
    assert filled('pytest -n "$(nproc)" {tests}', [], ["a"]) == 'pytest -n "$(nproc)" a'
    assert filled("grep -v '^$' x; pytest {tests}", [], ["a"]) == "grep -v '^$' x; pytest a"


@pytest.mark.parametrize("name", ["a$b", "a`b", "a\\b", "it's", 'q"', "a\nb"])
def test_names_that_a_second_shell_could_read_otherwise_are_not_filled_in_between_quotes(name: str) -> None:
    for template in ("sh -c 'pytest {tests}'", 'sh -c "pytest {tests}"'):
        assert filled(template, [], ["tests/test_a.py", name]) is None
        assert filled(template, [], ["tests/test a.py"]) is not None
    assert filled("pytest {tests}", [], [name]) is not None


# ---- hostile checkouts


HOSTILE = {
    "rates.py": "",
    "tests/test_quo'te\".py": "import rates\n",
    "tests/test_new\nline.py": "import rates\n",
    "tests/-test_dash_test.py": "import rates\n",
    "tests/test_{files}.py": "import rates\n",
    "tests/test_$(touch planted).py": "import rates\n",
    "tests/:(glob)*_test.py": "import rates\n",
    "tests/ü_test.py": "import rates\n",
}


def test_hostile_names_are_found_whole_but_for_imports_of_names_with_line_breaks(opened: Opener) -> None:
    box = opened(HOSTILE)
    expected = sorted(name for name in HOSTILE if name.startswith("tests/") and "\n" not in name)
    assert touched_tests(box, ["rates.py"]) == expected
    assert touched_tests(box, ["tests/test_new\nline.py"]) == ["tests/test_new\nline.py"]
    found = step_command(box, suite("make test", ""), "printf '%s\\0' {tests} > found; ls", ["rates.py"])
    assert found is not None
    assert "planted" not in box.run(found.command).output
    assert box.read("found").decode().split("\0")[:-1] == expected


def test_a_planted_shell_would_have_been_seen(opened: Opener) -> None:
    """The control: unquoted, the name does what it says."""
    box = opened(HOSTILE)
    assert "planted" in box.run("echo tests/test_$(touch planted).py; ls").output


def test_names_that_are_no_text_are_found_but_make_no_command(opened: Opener) -> None:
    name = b"tests/test_\xff.py".decode("utf-8", "surrogateescape")
    box = opened({"rates.py": ""})
    box.run("mkdir tests; printf 'import rates\\n' > tests/test_$(printf '\\377').py")
    assert touched_tests(box, ["rates.py"]) == [name]
    assert touched_tests(box, [name]) == [name]
    assert line_of(box, "pytest", "pytest", "rates.py") is None


def test_a_checkout_whose_modules_and_settings_are_traps_gives_the_same(opened: Opener) -> None:
    traps = dict.fromkeys(("shlex.py", "re.py", "os.py", "json.py", "sitecustomize.py"), "open('planted', 'w')\n")
    box = opened({**SRC, **traps})
    box.run("git config grep.column true; git config color.ui always; git config core.fsmonitor 'touch planted; false'")
    box.run("ln -s /dev/zero tests/test_endless.py; mkfifo tests/test_pipe.py; ln -s . tests/loop")
    box.run(
        f"mkdir -p {box.scratch}/touching.files {box.scratch}/touching.lines/x; ln -s / {box.scratch}/touching.gone"
    )
    assert touched_tests(box, ["src/shop/colours.py"]) == ["tests/test_paint.py"]
    assert "planted" not in box.run("ls").output


def test_lines_made_to_cost_time_cost_little(opened: Opener) -> None:
    long = {
        "a.py": "from " + "a." * 1900 + "b import " + "c, " * 60 + "\n",
        "b.py": "import " + "a.b." * 900 + "c\n",
        "c.py": "    " + "a " * 400_000 + "!\n",
        "d.js": "require('./a');" * 40_000,
        "e.go": 'import "' + "x" * 100_000,
        "f.py": ("from a import (\n" + "    b,\n" * 50) * 2_000,
        "/".join(["src"] * 200) + "/g.py": "",
    }
    box = opened({**long, "m.py": "", "test_m.py": TEST})
    assert touched_tests(box, ["m.py"]) == ["test_m.py"]


def test_in_an_enormous_repository_tests_are_found_by_name_alone(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = opened(SRC)
    monkeypatch.setattr(surveying, "MOST_FILES", len(SRC) - 1)
    assert touched_tests(box, ["src/shop/rates.py"]) == ["tests/deep/test_rates_of_old.py", "tests/test_rates.py"]
    monkeypatch.setattr(surveying, "MOST_FILES", len(SRC))
    assert "tests/test_front.py" in touched_tests(box, ["src/shop/rates.py"])
    monkeypatch.setattr(surveying, "MOST_BYTES", 100)
    # A name that was cut is none.
    assert survey(box, []).files <= SRC.keys()
    monkeypatch.setattr(surveying, "SECONDS", 0.0)
    assert line_of(box, "pytest", "pytest", "src/shop/rates.py") is None


def test_when_time_is_up_what_was_found_counts() -> None:
    lines = {"test_a.py": [(1, "import rates")]}
    seen = Survey(frozenset({"rates.py", "test_a.py"}), (), lines)
    assert "test_a.py" in Imports(seen, []).reached(["rates.py"])
    assert Imports(seen, [], until=0.0).reached(["rates.py"]) == {"rates.py"}


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text("ab./_ \n", min_size=1), st.lists(st.text("from import.ab()\\,;#'\"\n", max_size=40))))
def test_no_line_of_a_source_breaks_the_search(files: dict[str, list[str]]) -> None:
    for end in (".py", ".ts", ".go"):
        lines = {f"{name}{end}": list(enumerate(texts, 1)) for name, texts in files.items()}
        seen = Survey(frozenset(lines), (), {**lines, "go.mod": [(1, "module a")]})
        assert set(files) <= Imports(seen, files).reached(files)
