"""Commands that attack the sandbox's own processes, its limits, and the scripts that look after a checkout."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from boxes import make_mirror, make_sandbox, make_workspace, processes, wait_until

from graph.errors import BadInput, SandboxFailed
from integrations.sandbox import BoxLimits, ShellBox

FILES = {"a.txt": b"hello\n", "folder/b.txt": b"there\n"}
KILLED = "the command killed the sandbox's own processes"


@pytest.fixture
def place(tmp_path: Path) -> tuple[Path, Path, str]:
    mirror, commit = make_mirror(tmp_path, FILES)
    return tmp_path, mirror, commit


def limited(place: tuple[Path, Path, str], **limits: float) -> ShellBox:
    folder, mirror, commit = place
    sandbox = make_sandbox(folder, limits=BoxLimits(**limits))  # type: ignore[arg-type]
    return sandbox.open(make_workspace(folder, mirror, commit))


@pytest.fixture
def box(place: tuple[Path, Path, str]) -> Iterator[ShellBox]:
    opened = limited(place)
    yield opened
    opened.close()


@pytest.mark.parametrize(
    "kill", ["pkill python3", "pkill -9 python3", "pkill -f '[b]oxinit'", "kill $PPID", "kill -HUP 2"]
)
def test_a_command_that_kills_python_by_name_or_asks_nicely_does_not_hit_the_sandbox(box: ShellBox, kill: str) -> None:
    done = box.run(f"{kill}; echo went on")
    assert (done.exit, done.output.splitlines()[-1:]) == (0, ["went on"])
    assert box.run("sleep 100 & kill $!; wait $!").exit == 128 + 15  # and commands themselves can still be ended


@pytest.mark.parametrize("kill", ["kill -9 $PPID; sleep 5", "kill -STOP $PPID; sleep 5"])
def test_a_command_that_kills_its_helper_is_a_red_run_and_the_box_lives_on(box: ShellBox, kill: str) -> None:
    mark = f"99{secrets.randbelow(10**9)}"
    box.run("touch /tmp/stays")
    done = box.run(f"(setsid sleep {mark} &); {kill}")
    assert (done.exit, done.ended) == (137, "exit")
    assert KILLED in done.output
    assert done.seconds < 4
    assert processes(f"sleep\0{mark}") == []
    assert box.run("ls /tmp/stays; cat a.txt").output == "/tmp/stays\nhello\n"


@pytest.mark.parametrize("kill", ["kill -9 -1", "kill -9 2; sleep 5", "pkill -9 -f python; sleep 5"])
def test_a_command_that_kills_the_whole_box_is_a_red_run_and_the_next_works_in_a_new_one(
    box: ShellBox, kill: str
) -> None:
    box.run("echo made > kept.txt")
    done = box.run(kill)
    assert (done.exit, done.ended) == (137, "exit")
    assert KILLED in done.output
    assert box.run("cat kept.txt").output == "made\n"
    assert box.read("kept.txt") == b"made\n"


def test_an_init_that_was_stopped_goes_on(box: ShellBox) -> None:
    assert box.run("kill -STOP 2; echo fine").output == "fine\n"
    began = time.monotonic()
    assert box.run("echo next").output == "next\n"
    assert time.monotonic() - began < 3


def test_a_helper_that_dies_takes_nothing_of_the_command_beside_it(box: ShellBox) -> None:
    ends: list[str] = []
    thread = threading.Thread(target=lambda: ends.append(box.run("echo started > flag; sleep 1; echo done").output))
    thread.start()
    wait_until(lambda: box.run("cat flag").exit == 0)
    assert box.run("kill -9 $PPID; sleep 3").exit == 137
    thread.join(5)
    assert ends == ["done\n"]


def test_file_tools_export_and_reset_open_a_dead_box_once_more(place: tuple[Path, Path, str]) -> None:
    _, _, commit = place
    verbs: dict[str, Callable[[ShellBox], bool]] = {
        "read": lambda box: box.read("a.txt") == b"hello\n",
        "write": lambda box: box.write("new", b"x") is None,  # type: ignore[func-returns-value]
        "changed": lambda box: box.changed(commit) == ["new"],
        "export": lambda box: bool(box.export(commit).tree),
        "reset": lambda box: box.reset(commit) is None,  # type: ignore[func-returns-value]
        "run": lambda box: box.run("echo x").output == "x\n",
    }
    for name, verb in verbs.items():
        box = limited(place)
        box._cell._process.kill()  # type: ignore[attr-defined]
        box._cell._process.wait()  # type: ignore[attr-defined]
        assert verb(box), name
        box.close()
        with pytest.raises(SandboxFailed, match="closed"):
            box.run("true")


SHARED = (
    "python3 -c 'import mmap, time; m = mmap.mmap(-1, 600 << 20); [m.write(bytes(1 << 20)) for _ in range(600)];"
    " time.sleep(20)'"
)
MEMFD = (
    'python3 -c \'import os, time; f = os.memfd_create("x"); [os.write(f, bytes(1 << 20)) for _ in range(600)];'
    " time.sleep(20)'"
)


@pytest.mark.parametrize("hog", [SHARED, MEMFD], ids=["shared", "memfd"])
def test_shared_memory_counts(place: tuple[Path, Path, str], hog: str) -> None:
    box = limited(place, memory_bytes=256 << 20)
    assert box.run(hog, timeout=10).ended == "memory"
    box.close()


FILL = "head -c 40000000 /dev/zero > big"
DEEP = (
    'python3 -c "import os, time\n'
    "for _ in range(30):\n os.mkdir({name})\n os.chdir({name})\n"
    "open('big', 'wb').write(bytes(40 << 20))\ntime.sleep(20)\""
)
HIDDEN = {
    "below a closed folder": f"mkdir c && cd c && {FILL}; cd ..; chmod 000 c; sleep 20",
    "below two closed folders": f"mkdir -p c/d && cd c/d && {FILL}; cd ../..; chmod 400 c/d; chmod 000 c; sleep 20",
    "below a long path": DEEP.format(name="'d' * 200"),
    "below a long path of wide characters": DEEP.format(name="chr(26085) * 80"),
    "in a closed workspace": f"{FILL}; chmod 000 /workspace; sleep 20",
    "in a file without a name": "exec 3> gone; rm gone; head -c 40000000 /dev/zero >&3; sleep 20",
}


@pytest.mark.parametrize("command", HIDDEN.values(), ids=HIDDEN.keys())
def test_files_cannot_be_hidden_from_the_limit(place: tuple[Path, Path, str], command: str) -> None:
    box = limited(place, disk_bytes=20 << 20)
    assert box.run(command, timeout=10).ended == "disk"
    box.close()


def test_a_closed_folder_stays_closed_and_an_ordinary_one_may_be_deep(place: tuple[Path, Path, str]) -> None:
    box = limited(place)
    deep = "import os\nfor _ in range(3000):\n os.mkdir('d')\n os.chdir('d')"
    done = box.run(f'python3 -c "{deep}"; mkdir c; touch c/x; chmod 000 c; sleep 1.2; stat -c %a c')
    assert (done.ended, done.output) == ("exit", "0\n")
    box.close()
    again = limited(place)
    assert again.run("stat -c %a c; chmod 700 c; rm -rf c d").output == "0\n"
    again.close()


def test_in_a_full_workspace_commands_can_only_delete_and_are_told_so(place: tuple[Path, Path, str]) -> None:
    _, _, commit = place
    box = limited(place, disk_bytes=20 << 20)
    assert box.run("head -c 40000000 /dev/zero > big").ended == "disk"
    more = box.run("head -c 1000000 /dev/zero > more; stat -c %s more")
    assert more.ended == "disk"
    assert "the workspace is full" in more.output
    assert "delete something first" in more.output
    assert "\n0\n" in f"\n{more.output}"
    with pytest.raises(BadInput, match="the workspace is full"):
        box.write("a.txt", b"x")
    assert box.read("a.txt") == b"hello\n"
    assert "big" in box.changed(commit)
    box.close()
    again = limited(place, disk_bytes=20 << 20)  # a new box on the same workspace knows it too
    assert "the workspace is full" in again.run("true").output
    deleted = again.run("rm -f big more")
    assert (deleted.ended, deleted.exit) == ("exit", 0)
    assert again.run("head -c 1000000 /dev/zero > more; stat -c %s more").output == "1000000\n"
    again.close()


def test_a_full_workspace_can_be_reset(place: tuple[Path, Path, str]) -> None:
    _, _, commit = place
    box = limited(place, disk_bytes=20 << 20)
    assert box.run("head -c 40000000 /dev/zero > big").ended == "disk"
    box.reset(commit)
    assert box.run("echo fine > x; cat x").output == "fine\n"
    box.close()


PIPES = {
    "the ledger's index": "rm ../.ledger/index; mkfifo ../.ledger/index",
    "a link to a pipe for the ledger's index": "mkfifo /tmp/p; rm ../.ledger/index; ln -s /tmp/p ../.ledger/index",
    "the checkout's index": "rm .git/index; mkfifo .git/index",
    "the checkout's HEAD": "rm .git/HEAD; mkfifo .git/HEAD",
    "an ignore file": "mkdir n; mkfifo n/.gitignore",
    "an attributes file": "mkdir n; mkfifo n/.gitattributes; touch n/x; rm n/x",
}


@pytest.mark.parametrize("plant", PIPES.values(), ids=PIPES.keys())
def test_a_pipe_in_the_place_of_a_file_of_git_holds_nobody_up(place: tuple[Path, Path, str], plant: str) -> None:
    _, _, commit = place
    box = limited(place, open_seconds=8)
    box.write("a.txt", b"changed\n")
    assert box.run(plant).exit == 0
    assert box.changed(commit) == ["a.txt"]
    assert box.export(commit).pack
    box.reset(commit)
    assert box.changed(commit) == []
    box.close()


def test_writing_onto_a_pipe_is_refused(box: ShellBox) -> None:
    box.run("mkfifo pipe; ln -s pipe link")
    began = time.monotonic()
    for name in ("pipe", "link"):
        with pytest.raises(BadInput, match="not an ordinary file"):
            box.write(name, b"x")
    assert time.monotonic() - began < 5
