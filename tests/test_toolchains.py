"""Which parts of the operator's machine a box may see."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from boxes import make_mirror, make_sandbox, make_workspace

from integrations.toolchains import box_path, toolchains

SYSTEM = "/usr/local/bin:/usr/bin:/bin"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home" / "ann"
    for private in (".ssh", ".config/gh", ".aws", "projects/secret"):
        (folder / private).mkdir(parents=True)
        (folder / private / "key").write_text("key")
    return folder


def program(path: Path, text: str = "#!/bin/sh\necho ran\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def shown(home: Path, *folders: Path) -> tuple[list[str], list[str]]:
    search = ":".join([*map(str, folders), SYSTEM])
    places = toolchains(search, home=home)
    path = box_path(search, places, home=home)
    assert path.endswith(SYSTEM)
    inside = path.removesuffix(SYSTEM).strip(":").split(":")

    def short(place: str) -> str:
        return str(Path(place).relative_to(home)) if Path(place).is_relative_to(home) else place

    return [short(str(place)) for place in places], [short(entry) for entry in inside if entry]


def test_the_systems_folders_need_nothing(home: Path) -> None:
    assert shown(home) == ([], [])


def test_shims_of_pyenv_stand_for_the_chosen_version(home: Path) -> None:
    root = home / ".pyenv"
    for version in ("3.11.7", "3.12.1"):
        program(root / "versions" / version / "bin" / "python3")
        (root / "versions" / version / "lib").mkdir()
    (root / "version").write_text("3.12.1\n")
    program(root / "shims" / "python3")
    program(root / "bin" / "pyenv")
    assert shown(home, root / "shims", root / "bin") == ([".pyenv/versions/3.12.1"], [".pyenv/versions/3.12.1/bin"])


def test_a_node_from_nvm_and_a_tool_in_opt_are_shown_by_their_prefix(home: Path, tmp_path: Path) -> None:
    node = home / ".nvm/versions/node/v20.1.0"
    program(node / "bin/node")
    program(node / "lib/node_modules/npm/bin/npm-cli.js")
    link(node / "bin/npm", Path("../lib/node_modules/npm/bin/npm-cli.js"))
    program(tmp_path / "opt/go/bin/go")
    (tmp_path / "opt/go/lib").mkdir()
    places, path = shown(home, node / "bin", tmp_path / "opt/go/bin")
    assert places == [".nvm/versions/node/v20.1.0", str(tmp_path / "opt/go")]
    assert path == [".nvm/versions/node/v20.1.0/bin", str(tmp_path / "opt/go/bin")]


def test_of_cargo_only_the_programs_and_the_default_toolchain_are_shown(home: Path) -> None:
    program(home / ".cargo/bin/rustup")
    link(home / ".cargo/bin/cargo", Path("rustup"))
    (home / ".cargo/credentials.toml").write_text("token")
    (home / ".cargo/lib").mkdir()
    for name in ("nightly-x", "stable-x"):
        program(home / ".rustup/toolchains" / name / "bin/cargo")
        (home / ".rustup/toolchains" / name / "lib").mkdir()
    (home / ".rustup/settings.toml").write_text('default_toolchain = "stable-x"\n')
    places, path = shown(home, home / ".cargo/bin")
    assert places == [".rustup/toolchains/stable-x", ".cargo/bin"]
    assert path == [".rustup/toolchains/stable-x/bin", ".cargo/bin"]


def test_local_bin_shows_itself_and_where_its_links_lead_but_not_local(home: Path) -> None:
    python = home / ".local/share/uv/python/cpython-3.12"
    program(python / "bin/python3.12")
    (python / "lib").mkdir()
    link(home / ".local/bin/python3.12", python / "bin/python3.12")
    tool = home / ".local/share/uv/tools/ruff"
    program(tool / "bin/ruff")
    (tool / "pyvenv.cfg").write_text("")
    link(home / ".local/bin/ruff", tool / "bin/ruff")
    program(home / ".local/bin/script")
    (home / ".local/lib").mkdir()
    places, path = shown(home, home / ".local/bin")
    assert sorted(places) == [".local/bin", ".local/share/uv/python/cpython-3.12", ".local/share/uv/tools/ruff"]
    assert path == [".local/bin"]


def test_neither_the_home_nor_anything_private_is_ever_shown(home: Path) -> None:
    program(home / "projects/secret/run.sh")
    program(home / "projects/tool/bin/tool")
    (home / "projects/tool/.git").mkdir()
    (home / "projects/tool/lib").mkdir()
    program(home / ".config/x/bin/x")
    program(home / ".ssh/agent")
    (home / "lib").mkdir()
    for name, target in {
        "run": home / "projects/secret/run.sh", "tool": home / "projects/tool/bin/tool", "x": home / ".config/x/bin/x",
        "agent": home / ".ssh/agent", "dangling": home / "nowhere", "loop": home / "bin/loop", "dir": home,
    }.items():  # fmt: skip
        link(home / "bin" / name, target)
    folders = (home, home / ".ssh", home / ".config/x/bin", home / "bin", home.parent, home / "missing", Path("rel"))
    places, path = shown(home, *folders)
    # Programs that a link leads to are shown as single files, never with the project around them.
    assert sorted(places) == ["bin", "projects/secret/run.sh", "projects/tool/bin/tool"]
    assert path == ["bin"]


def test_our_own_environment_is_not_shown(home: Path) -> None:
    places = toolchains(f"{sys.prefix}/bin:{SYSTEM}", home=home)
    assert not any(Path(sys.prefix).is_relative_to(place) for place in places)


def test_in_a_box_the_operators_toolchains_run_and_the_rest_of_the_home_is_absent(home: Path, tmp_path: Path) -> None:
    tool = home / ".pyenv/versions/9.9/bin"
    program(tool / "mytool", "#!/bin/sh\ncat $(dirname $0)/../lib/data\n")
    (tool.parent / "lib").mkdir()
    (tool.parent / "lib/data").write_text("found it\n")
    (home / ".pyenv/version").write_text("9.9")
    (home / ".pyenv/shims").mkdir()
    mirror, commit = make_mirror(tmp_path, {"a": b"a"})
    sandbox = make_sandbox(tmp_path, search_path=f"{home}/.pyenv/shims:{SYSTEM}")
    box = sandbox.open(make_workspace(tmp_path, mirror, commit))
    assert box.run("mytool").output == "found it\n"
    assert box.run(f"ls -A {home}").output.split() == [".pyenv"]
    assert box.run(f"touch {tool}/x").exit != 0
    box.close()
    assert subprocess.run(["ls", home / ".ssh"], check=True).returncode == 0


@pytest.mark.parametrize("mark", [".env", ".git", "pyproject.toml", "package.json"])
def test_a_project_with_its_programs_on_the_path_is_not_shown(home: Path, mark: str) -> None:
    project = home / "proj"
    program(project / "bin/tool")
    program(project / "venv/bin/python")
    (project / "venv/pyvenv.cfg").write_text("")
    for folder in (project, home / "flat"):
        (folder / "lib").mkdir(parents=True)
        (folder / mark).write_text("TOKEN=1")
    places, path = shown(home, project / "bin", project / "venv/bin", project, home / "flat")
    assert places == path == ["proj/bin", "proj/venv/bin"]
    (project / mark).unlink()
    assert shown(home, project / "bin")[0] == ["proj"]  # without the mark, it looks like an installation


def test_a_home_that_is_reached_by_a_link_is_not_shown(home: Path) -> None:
    program(home / "bin/tool")
    (home / "lib").mkdir()
    link(home.parent / "alias", home)
    alias = home.parent / "alias"
    assert toolchains(f"{alias}/bin:{SYSTEM}", home=alias) == [home / "bin"]


def test_tokens_in_installations_are_shown_empty(home: Path, tmp_path: Path) -> None:
    node = home / "node"
    program(node / "bin/node")
    (node / "lib").mkdir()
    (node / "etc").mkdir()
    (node / "lib/linked").write_text("token")
    link(node / ".netrc", node / "lib/linked")
    names = ["pip.conf", "etc/npmrc", ".condarc", ".npmrc", ".netrc", "credentials.toml", "etc/pip.conf"]
    for name in names:
        (node / name).write_text("token")
    (node / "lib/data").write_text("data")
    mirror, commit = make_mirror(tmp_path, {"a": b"a"})
    sandbox = make_sandbox(tmp_path, toolchains=[node])
    box = sandbox.open(make_workspace(tmp_path, mirror, commit))
    assert box.run(f"cd {node}; cat {' '.join(names)} lib/linked; cat lib/data").output == "data"
    assert box.run(f"echo x > {node}/pip.conf").exit != 0
    box.close()
    assert (node / "pip.conf").read_text() == "token"
