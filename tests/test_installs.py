"""What set-ups install: shown to later boxes, shared read-only, kept within a size, and gone when nobody needs it."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from boxes import PATH, UID, make_mirror, make_sandbox, make_workspace
from hypothesis import given
from hypothesis import strategies as st

from graph.errors import LeaseLost, SandboxFailed
from graph.ports import Workspace
from graph.values import Repository
from integrations.doorrules import DoorRules, parse_host
from integrations.installs import InstallFolders, Policy, janitor
from integrations.sandbox import ShellBox

REPOSITORY = Repository(name="acme/api", url="file:///acme/api.git")
IGNORED = {".gitignore": b"made/\n", "a.txt": b"a\n"}


@pytest.fixture(params=["bubblewrap"])
def place(tmp_path: Path) -> Iterator[Place]:
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    made = Place(tmp_path)
    yield made
    made.installs.close()


class Place:
    """A data folder, a repository and a sandbox. `notes` is the journal."""

    def __init__(self, folder: Path, **policy: Any) -> None:
        self.home = folder / "home"
        self.folder = folder
        self.mirror, self.commit = make_mirror(folder, IGNORED)
        self.sandbox = make_sandbox(folder)
        self.notes: list[dict[str, Any]] = []
        self.installs = self.another(**policy)
        self.workspace = make_workspace(folder, self.mirror, self.commit)

    def another(self, **policy: Any) -> InstallFolders:
        uid = UID if os.geteuid() == 0 else None
        return InstallFolders(self.home, self.sandbox, Policy(**{"network": False, **policy}), uid)

    def note(self, kind: str, **fields: Any) -> None:
        self.notes.append({"kind": kind, **fields})

    def install(self, name: str, *commands: str) -> None:
        with self.installs.phase(self.workspace, note=self.note, go=False) as phase:
            for command in commands:
                outcome = phase.box.run(command)
                assert outcome.exit == 0, outcome.output
            phase.keep(name)

    def box(self, name: str, task: str = "tw-1") -> ShellBox:
        root = self.folder / "work" / task
        root.parent.mkdir(exist_ok=True)
        root.parent.chmod(0o711)
        return self.sandbox.open(Workspace(task, root, self.mirror, self.commit, deps=self.installs.place(name)))

    def name(self, facts: str = "x") -> str:
        return self.installs.digest(REPOSITORY, facts)

    def left_over(self) -> list[str]:
        return sorted(str(path.relative_to(self.home)) for path in (self.home / "installs" / ".new").glob("*"))


def test_what_is_installed_is_seen_by_later_boxes_and_cannot_be_changed_there(place: Place) -> None:
    place.install(place.name(), 'echo 7 > "$THREADWRIGHT_DEPS/seven"')
    box = place.box(place.name())
    assert box.run('cat "$THREADWRIGHT_DEPS/seven"').output == "7\n"
    outcome = box.run('echo 8 > "$THREADWRIGHT_DEPS/seven"; rm -f "$THREADWRIGHT_DEPS/seven"; ls /stage /door')
    assert outcome.output.count("Read-only file system") == 2
    assert outcome.output.count("No such file or directory") == 2
    box.close()


def test_ignored_folders_that_the_set_up_made_are_in_each_checkout_and_in_no_commit(place: Place) -> None:
    place.install(
        place.name(),
        "mkdir -p made node_modules/.bin node_modules/@corp/b node_modules/a packages/p/node_modules/c",
        "echo 1 > made/one; echo 2 > node_modules/a/two; echo 3 > node_modules/@corp/b/three",
        "ln -s ../a/two node_modules/.bin/two; ln -s ../packages/p node_modules/p",
        "echo 4 > packages/p/node_modules/c/four",
        "echo lost > untracked.txt",
    )
    for task in ("tw-1", "tw-2"):
        box = place.box(place.name(), task)
        look = box.run(
            "cat made/one node_modules/a/two node_modules/@corp/b/three node_modules/.bin/two"
            " packages/p/node_modules/c/four; ls node_modules/.bin; touch node_modules/.cache made/more;"
            " ls untracked.txt"
        )
        assert look.output.split()[:6] == ["1", "2", "3", "2", "4", "two"]
        assert "untracked.txt" in look.output
        assert look.output.count("No such file") == 1
        assert "Read-only" in box.run("echo x > node_modules/a/two").output
        assert box.changed(place.commit) == []
        box.close()
    again = place.box(place.name())
    assert again.run("rm -r made; true").exit == 0
    again.close()
    later = place.box(place.name())
    assert "No such file" in later.run("cat made/one").output, "a checkout is given it once"
    later.close()


def test_another_install_takes_the_place_of_the_first_in_a_checkout(place: Place) -> None:
    place.install(place.name("one"), "mkdir -p node_modules/old; echo 1 > node_modules/old/x")
    place.install("task/tw-1/1", "mkdir -p node_modules/new; echo 2 > node_modules/new/x")
    place.box(place.name("one")).close()
    box = place.box("task/tw-1/1")
    assert box.run("ls node_modules").output.split() == ["new"]
    box.close()


LINKS = "mv /stage/deps /stage/old; ln -s {0} /stage/deps; echo linked"


def outside(place: Place) -> Path:
    folder = place.folder / "outside"
    folder.mkdir()
    folder.chmod(0o755)
    (folder / "secret").write_text("of the host\n")
    return folder


def test_a_set_up_cannot_put_a_folder_of_the_host_in_place_of_its_own(place: Place) -> None:
    with pytest.raises(SandboxFailed, match="replaced the folder"):
        place.install(place.name(), LINKS.format(outside(place)))
    assert not place.installs.has(place.name())
    assert place.left_over() == []


def test_control_without_the_look_a_later_box_would_be_shown_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("integrations.installs._identity", lambda path: (0, 0, 0))
    monkeypatch.setattr("integrations.installs._is_folder", Path.is_dir)
    place.install(place.name(), LINKS.format(outside(place)))
    box = place.box(place.name())
    assert box.run("cat /deps/secret").output == "of the host\n"
    box.close()


def test_a_link_that_was_kept_before_is_not_shown_any_more(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("integrations.installs._identity", lambda path: (0, 0, 0))
        place.install(place.name(), LINKS.format(outside(place)))
    assert not place.installs.has(place.name())


def test_a_set_up_that_kills_its_box_gets_no_other_in_folders_that_it_replaced(place: Place) -> None:
    target = outside(place)
    links = f"cd /stage; mv work w; mv deps d; ln -s {target} work; ln -s {target} deps; kill -9 -1"
    with place.installs.phase(place.workspace, note=place.note, go=False) as phase:
        with contextlib.suppress(SandboxFailed):
            phase.box.run(links)
        with pytest.raises(SandboxFailed):
            phase.box.run("touch /deps/written")
    assert target.stat().st_mode & 0o777 == 0o755
    assert sorted(path.name for path in target.iterdir()) == ["secret"]


def test_a_package_cannot_measure_itself(place: Place) -> None:
    place.install(
        place.name(),
        'mkdir -p "$THREADWRIGHT_DEPS/venv/bin"; printf "#!/bin/sh\\necho -5 x\\n" > "$THREADWRIGHT_DEPS/venv/bin/du";'
        ' chmod +x "$THREADWRIGHT_DEPS/venv/bin/du"',
    )
    [about] = place.home.glob("installs/*/*/*.json")
    assert json.loads(about.read_text())["bytes"] > 0


def test_a_phase_that_is_not_kept_leaves_nothing(place: Place) -> None:
    with place.installs.phase(place.workspace, note=place.note, go=False) as phase:
        phase.box.run('echo 7 > "$THREADWRIGHT_DEPS/seven"')
    assert not place.installs.has(place.name())
    assert place.left_over() == []
    with pytest.raises(SandboxFailed, match="not there any more"):
        place.installs.place(place.name())


def test_a_set_up_that_grows_too_large_is_stopped(place: Place) -> None:
    small = place.another(disk_bytes=8 << 20)
    with small.phase(place.workspace, note=place.note, go=False) as phase:
        ended = phase.box.run('head -c 64M /dev/zero > "$THREADWRIGHT_DEPS/x"; sleep 5').ended
        again = phase.box.run("head -c 64M /dev/zero > big; sleep 5").ended
    assert (ended, again) == ("disk", "disk")
    assert place.left_over() == []


def test_without_a_network_a_set_up_has_no_door(place: Place) -> None:
    with place.installs.phase(place.workspace, note=place.note, go=False) as phase:
        outcome = phase.box.run("ls /door; env | grep -c -i proxy")
    assert "No such file" in outcome.output
    assert outcome.output.endswith("0\n")


def test_with_one_its_only_way_out_is_the_door(place: Place) -> None:
    host = parse_host("https://registry.example")
    networked = place.another(network=True, rules=DoorRules((host,)))
    look = (
        "import socket, urllib.request, urllib.error\n"
        "for address in (('1.1.1.1', 53), ('169.254.169.254', 80)):\n"
        "    try:\n        socket.create_connection(address, 2); print('reached', address)\n"
        "    except OSError as error:\n        print('no', error.errno)\n"
        "try:\n    urllib.request.urlopen('http://elsewhere.example/', timeout=10)\n"
        "except urllib.error.HTTPError as error:\n    print(error.code, error.reason)\n"
    )
    with networked.phase(place.workspace, note=place.note, go=False) as phase:
        outcome = phase.box.run("python3 -I -", stdin=look.encode())
    assert outcome.output.count("no 101") == 2, outcome.output
    assert "403" in outcome.output
    assert "elsewhere.example" in str(phase.refused())
    assert [note["host"] for note in place.notes if note["kind"] == "network"] == ["elsewhere.example"]


def test_a_lost_lease_is_noticed_though_a_thread_of_the_door_met_it(place: Place) -> None:
    def lost(kind: str, **fields: Any) -> None:
        raise LeaseLost("tw-1")

    networked = place.another(network=True)
    ask = "import urllib.request; urllib.request.urlopen('http://elsewhere.example/', timeout=10)"
    stack = contextlib.ExitStack()
    phase = stack.enter_context(networked.phase(place.workspace, note=lost, go=False))
    phase.box.run(f'python3 -I -c "{ask}"')
    with pytest.raises(LeaseLost):
        phase.keep(place.name())
    with pytest.raises(LeaseLost):
        stack.close()
    assert not place.installs.has(place.name())


def test_go_modules_alone_may_ask_gos_proxy(place: Place) -> None:
    networked = place.another(network=True, rules=DoorRules())
    ask = "import urllib.request; urllib.request.urlopen('https://proxy.golang.org/', timeout=10)"
    refused = {}
    for go in (False, True):
        with networked.phase(place.workspace, note=place.note, go=go) as phase:
            phase.box.run(f'python3 -I -c "{ask}"')
        refused[go] = str(phase.refused())
    assert "not allowed" in refused[False] or "SETUP_HOSTS" in refused[False]
    assert refused[True] != refused[False]


# ---- the janitor


def age(place: Place, name: str, seconds: float) -> None:
    for path in (place.home / "installs" / name).glob("*.json"):
        os.utime(path, (time.time() - seconds, time.time() - seconds))


def test_what_was_not_used_for_longest_goes_first_when_there_is_too_much(place: Place) -> None:
    names = [place.name(facts) for facts in "abc"]
    for number, name in enumerate(names):
        place.install(name, 'head -c 1M /dev/urandom > "$THREADWRIGHT_DEPS/x"')
        age(place, name, 1000 - number)
    place.installs.place(names[0])
    age(place, names[0], 2000)
    gone = janitor(place.home, set(), 2_500_000)
    assert [path.rpartition("/")[0] for path in gone] == [names[1]], "the oldest is in use, the newest may stay"
    place.installs.close()
    janitor(place.home, set(), 0)
    assert not any(place.installs.has(name) for name in names)


def test_what_was_installed_for_one_task_goes_with_it(place: Place) -> None:
    for task in ("tw-1", "tw-2"):
        place.install(f"task/{task}/1", "true")
        age(place, f"task/{task}/1", 7200)
    janitor(place.home, {"tw-1"}, 1 << 30)
    assert place.installs.has("task/tw-1/1")
    assert not place.installs.has("task/tw-2/1")


def test_what_a_dead_worker_left_half_done_goes_and_what_a_living_one_does_stays(place: Place) -> None:
    dead = place.home / "installs" / ".new" / "0123456789abcdef"
    (dead / "work").mkdir(parents=True)
    os.utime(dead, (1, 1))
    with place.installs.phase(place.workspace, note=place.note, go=False) as phase:
        [living] = [path for path in dead.parent.iterdir() if path.is_dir() and path != dead]
        os.utime(living, (1, 1))
        janitor(place.home, set(), 1 << 30)
        assert not dead.exists()
        assert phase.box.run("true").exit == 0
        phase.keep(place.name())
    assert place.installs.has(place.name())


# ---- names


@given(st.text())
def test_only_names_of_ours_name_a_folder(text: str) -> None:
    installs = InstallFolders(Path("/nowhere"), make_sandbox(Path("/nowhere"), search_path=PATH), Policy(), None)
    try:
        assert installs.has(text) is False
    except SandboxFailed:
        return
    assert ".." not in text.split("/")


@given(st.text(max_size=80), st.text())
def test_every_digest_is_a_name(name: str, facts: str) -> None:
    installs = InstallFolders(Path("/nowhere"), make_sandbox(Path("/nowhere"), search_path=PATH), Policy(), None)
    repository = Repository(name=name, url="file:///x")
    assert installs.has(installs.digest(repository, facts)) is False
    assert installs.digest(repository, facts) != installs.digest(repository, f"{facts}+")


ODD = {
    "socket": "mkdir made; python3 -c \"import socket; socket.socket(1).bind('made/s')\"",
    "pipe": "mkdir made; mkfifo made/p",
    "nobody may read it": "mkdir made; echo 1 > made/closed; chmod 000 made/closed",
    "nobody may look into it": "mkdir -p made/closed/in; chmod 000 made/closed",
}


@pytest.mark.parametrize("command", ODD.values(), ids=ODD)
def test_what_cannot_be_copied_is_left_out_and_the_rest_is_brought(place: Place, command: str) -> None:
    place.install(place.name(), f"{command}; echo 7 > made/seven")
    box = place.box(place.name())
    assert box.run("cat made/seven").output == "7\n"
    box.close()


def test_names_that_are_no_text_are_brought_and_taken_away_again(place: Place) -> None:
    name = 'd="$(printf "caf\\351")"'
    place.install(place.name("one"), f'{name}; mkdir -p "$d/node_modules/x"')
    place.install(place.name("two"), "mkdir made; echo 2 > made/two")
    look = f'{name}; test -d "$d/node_modules/x"; echo $?; ls made'
    box = place.box(place.name("one"))
    assert box.run(look).output.startswith("0\n")
    box.close()
    box = place.box(place.name("two"))
    assert box.run(look).output == "1\ntwo\n"
    box.close()


def test_a_set_up_that_removes_git_is_told_in_plain_words(place: Place) -> None:
    with pytest.raises(SandboxFailed, match="git cannot say what is ignored") as raised:
        place.install(place.name(), "rm -rf .git")
    assert "Traceback" not in str(raised.value)
