"""One box and its commands: limits, trees of processes, concurrency, stopping."""

from __future__ import annotations

import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from boxes import PATH, UID, make_mirror, make_sandbox, make_workspace, processes, wait_until

from graph.errors import BadInput, Stopped
from graph.ports import Halt
from integrations.sandbox import BoxLimits, BoxSandbox, ShellBox

FILES = {"a.txt": b"hello\n", "folder/b.txt": b"there\n"}


@pytest.fixture
def place(tmp_path: Path) -> tuple[Path, Path, str]:
    mirror, commit = make_mirror(tmp_path, FILES)
    return tmp_path, mirror, commit


@pytest.fixture
def box(place: tuple[Path, Path, str]) -> Iterator[ShellBox]:
    folder, mirror, commit = place
    opened = make_sandbox(folder).open(make_workspace(folder, mirror, commit))
    yield opened
    opened.close()


def limited(place: tuple[Path, Path, str], driver: str = "bubblewrap", **limits: float) -> ShellBox:
    folder, mirror, commit = place
    sandbox = make_sandbox(folder, driver, limits=BoxLimits(**limits), process_accepted=True)  # type: ignore[arg-type]
    return sandbox.open(make_workspace(folder, mirror, commit))


def test_a_command_runs_in_the_checkout_as_an_ordinary_user_with_nothing_of_the_operators(box: ShellBox) -> None:
    done = box.run('pwd; id -u; cat a.txt; echo "$HOME"; ls /home /root 2>/dev/null | wc -l; env | sort')
    lines = done.output.splitlines()
    assert lines[:4] == ["/workspace/checkout", "1000", "hello", "/tmp/home"]
    assert (done.exit, done.ended, done.dropped) == (0, "exit", 0)
    names = {line.partition("=")[0] for line in lines[5:]}
    assert names <= {
        "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TERM", "CI", "PAGER", "GIT_PAGER", "GIT_EDITOR",
        "GIT_TERMINAL_PROMPT", "NO_COLOR", "PWD", "SHLVL", "_", "OLDPWD", "PYTHONDONTWRITEBYTECODE",
    }  # fmt: skip


def test_exit_codes_signals_and_standard_input_arrive(box: ShellBox) -> None:
    assert box.run("exit 7").exit == 7
    assert box.run("kill -SEGV $$").exit == 128 + signal.SIGSEGV
    assert box.run("no-such-program").exit == 127
    assert box.run("wc -c", stdin=b"x" * 3_000_000).output.strip() == "3000000"
    assert box.run("true", stdin=b"x" * 3_000_000).exit == 0
    with pytest.raises(BadInput):
        box.run("echo \0")


def test_only_the_workspace_and_tmp_are_writable(box: ShellBox) -> None:
    tried = box.run(
        "for f in / /usr /etc /dev /run /mirror.git /root /home /proc /workspace /tmp /dev/shm; do"
        " touch $f/x 2>/dev/null && echo $f; done; true"
    )
    assert tried.output.split() == ["/workspace", "/tmp", "/dev/shm"]


def test_commands_of_one_box_share_tmp_and_loopback(box: ShellBox) -> None:
    answers: list[str] = []
    serve = "cd /tmp && echo served > index && exec python3 -m http.server 8123 --bind 127.0.0.1"
    thread = threading.Thread(target=lambda: answers.append(box.run(serve, timeout=30).ended))
    thread.start()
    fetch = "import urllib.request as u; print(u.urlopen('http://localhost:8123/index', timeout=5).read().decode())"
    wait_until(lambda: box.run(f'python3 -c "{fetch}"').output.strip() == "served")
    assert box.run("echo beside; exit 3").exit == 3
    assert thread.is_alive()
    box._cell.stop()
    thread.join(10)
    assert answers == ["stopped"]


def test_a_gigabyte_of_output_is_cut_off_while_it_is_read(box: ShellBox) -> None:
    done = box.run("yes threadwright | head -c 1000000000")
    assert (done.ended, done.exit) == ("output", None)
    assert len(done.output) < 65_000
    assert 8_000_000 < done.dropped < 10_000_000
    assert done.seconds < 5


def test_long_output_keeps_head_and_tail(box: ShellBox) -> None:
    done = box.run("echo first; head -c 300000 /dev/zero | tr '\\0' x; echo; echo last")
    assert done.ended == "exit"
    assert done.output.startswith("first\n")
    assert done.output.endswith("\nlast\n")
    assert len(done.output) - len(f"\n[… {done.dropped} bytes left out …]\n") == 64_000
    assert done.dropped == 300_000 + len("first\n\nlast\n") - 64_000


@pytest.mark.parametrize("driver", ["bubblewrap", "process"])
def test_a_timeout_takes_the_whole_tree_and_leaves_the_commands_beside_it(
    place: tuple[Path, Path, str], driver: str
) -> None:
    box = limited(place, driver)
    gone, stays = f"77{secrets.randbelow(10**9)}", f"88{secrets.randbelow(10**9)}"
    ends: list[str] = []
    beside = threading.Thread(target=lambda: ends.append(box.run(f"sleep {stays}", timeout=60).ended))
    beside.start()
    wait_until(lambda: processes(stays))
    daemons = f"(setsid sleep {gone} &); (setsid sh -c 'sleep {gone} & sleep {gone}' &); sleep {gone}"
    done = box.run(daemons, timeout=0.4)
    assert (done.ended, done.exit) == ("timeout", None)
    assert 0.4 <= done.seconds < 2
    assert processes(gone) == []
    assert processes(stays)
    box.close()
    beside.join(10)
    assert ends == ["stopped"]
    assert processes(stays) == []


def test_without_a_box_the_same_daemon_would_be_seen_to_live_on() -> None:
    mark = f"66{secrets.randbelow(10**9)}"
    subprocess.run(["sh", "-c", f"setsid sleep {mark} > /dev/null 2>&1 &"], check=True)
    for pid in wait_until(lambda: processes(mark)):
        subprocess.run(["kill", "-9", str(pid)], check=False)


def test_a_daemon_that_holds_the_pipe_holds_nobody_up_and_ends_with_its_command(box: ShellBox) -> None:
    mark = f"55{secrets.randbelow(10**9)}"
    done = box.run(f"(setsid sleep {mark} &); echo started")
    assert (done.exit, done.output) == (0, "started\n")
    assert done.seconds < 2
    assert processes(mark) == []


def test_a_fork_bomb_stays_in_its_bounds_and_ends(place: tuple[Path, Path, str]) -> None:
    box = limited(place, processes=100)
    fork = "try: os.fork()\n except OSError: print('refused', flush=True); time.sleep(9)"
    bomb = f"import os, time\nwhile True:\n {fork}"
    done = box.run(f'python3 -c "{bomb}"', timeout=1.5)
    assert done.ended == "timeout"
    assert "refused" in done.output
    assert box.run("ls -d /proc/[0-9]* | wc -l").output.strip() < "9"
    assert box.run("echo fine").output == "fine\n"
    box.close()


def test_memory_of_one_process_and_of_all_together_is_bounded(place: tuple[Path, Path, str]) -> None:
    box = limited(place, memory_bytes=200 << 20)
    alone = box.run("python3 -c 'x = bytearray(400 << 20)'")
    assert alone.exit == 1
    assert "MemoryError" in alone.output
    many = "import os, time\n[os.fork() for _ in range(2)]\nx = bytearray(b'x') * (100 << 20)\ntime.sleep(20)"
    assert box.run(f'python3 -c "{many}"', timeout=15).ended == "memory"
    box.close()


def test_a_workspace_that_grows_too_large_ends_the_command(place: tuple[Path, Path, str]) -> None:
    box = limited(place, disk_bytes=30 << 20)
    slow = box.run("for i in $(seq 400); do head -c 1000000 /dev/zero > f$i; sleep 0.01; done", timeout=30)
    assert slow.ended == "disk"
    box.run("rm -f f*")
    assert box.run("head -c 60000000 /dev/zero > big").ended == "disk"
    box.close()


def test_files_are_bounded_and_tmp_too(place: tuple[Path, Path, str]) -> None:
    box = limited(place, file_bytes=1 << 20, tmp_bytes=2 << 20)
    assert box.run("head -c 2000000 /dev/zero > big; stat -c %s big").output.split()[-1] == str(1 << 20)
    assert "No space" in box.run("for i in 1 2 3; do head -c 900000 /dev/zero > /tmp/$i; done").output
    box.close()


def test_a_stop_ends_the_running_command_and_refuses_the_next(place: tuple[Path, Path, str]) -> None:
    folder, mirror, commit = place
    halt = Halt()
    box = make_sandbox(folder).for_turn(halt).open(make_workspace(folder, mirror, commit))
    mark = f"44{secrets.randbelow(10**9)}"
    ends: list[str] = []
    thread = threading.Thread(target=lambda: ends.append(box.run(f"(setsid sleep {mark} &); sleep {mark}").ended))
    thread.start()
    wait_until(lambda: len(processes(f"sleep\0{mark}")) == 2)
    began = time.monotonic()
    halt.set("Ann")
    thread.join(5)
    assert time.monotonic() - began < 2
    assert ends == ["stopped"]
    assert processes(mark) == []
    for verb in (lambda: box.run("true"), lambda: box.read("a.txt"), lambda: box.export(commit)):
        with pytest.raises(Stopped, match="stopped"):
            verb()
    box.close()
    with pytest.raises(Stopped):
        make_sandbox(folder, halt=halt).open(make_workspace(folder, mirror, commit))


def test_a_box_may_be_opened_in_a_thread_that_ends(place: tuple[Path, Path, str]) -> None:
    folder, mirror, commit = place
    opened: list[ShellBox] = []
    work = make_workspace(folder, mirror, commit)
    thread = threading.Thread(target=lambda: opened.append(make_sandbox(folder).open(work)))
    thread.start()
    thread.join()
    assert opened[0].run("echo alive").output == "alive\n"
    opened[0].close()
    opened[0].close()


def test_nothing_of_a_box_is_left_when_its_process_is_killed(place: tuple[Path, Path, str]) -> None:
    folder, mirror, commit = place
    mark = f"33{secrets.randbelow(10**9)}"
    program = (
        "import sys; from pathlib import Path; sys.path[:0] = sys.argv[1:3]\n"
        "from boxes import *\n"
        "folder, mirror, commit, mark = Path(sys.argv[3]), Path(sys.argv[4]), sys.argv[5], sys.argv[6]\n"
        "box = make_sandbox(folder).open(make_workspace(folder, mirror, commit))\n"
        "box.run(f'(setsid sleep {mark} &); sleep {mark}')\n"
    )
    here = Path(__file__).parent
    arguments = [str(here.parent), str(here), str(folder), str(mirror), commit, mark]
    bot = subprocess.Popen([sys.executable, "-c", program, *arguments])
    wait_until(lambda: len(processes(f"sleep\0{mark}")) == 2, 20)
    bot.kill()
    bot.wait()
    wait_until(lambda: not processes(mark), 5)


def test_files_are_read_and_written_inside(box: ShellBox) -> None:
    name = "new folder/-n 'quoted'\n\udcff.txt"
    box.write(name, bytes(range(256)))
    assert box.read(name) == bytes(range(256))
    assert box.read(name, limit=3) == b"\x00\x01\x02"
    assert box.read("folder/b.txt") == b"there\n"
    box.run("ln -s /proc/1/environ link; ln -s /etc/shadow shadow; mkfifo pipe")
    for wrong in ("missing", "folder", "../x", "/etc/passwd", "", "a\0b", "pipe", "folder/../../x", "shadow"):
        with pytest.raises(BadInput):
            box.read(wrong)
    for wrong in ("folder", "../x", "/tmp/x", "a.txt/below"):
        with pytest.raises(BadInput):
            box.write(wrong, b"x")


def test_the_process_driver_warns_and_runs(place: tuple[Path, Path, str]) -> None:
    folder, mirror, commit = place
    sandbox: BoxSandbox = make_sandbox(folder, "process", process_accepted=True)
    assert "WITHOUT a sandbox" in sandbox.warning
    box = sandbox.open(make_workspace(folder, mirror, commit))
    assert box.run("cat a.txt; git status --short; pwd").output.split() == ["hello", str(folder / "workspace/checkout")]
    box.write("c", b"c")
    assert box.changed(commit) == ["c"]
    box.close()
    assert make_sandbox(folder).warning == ""


def test_a_box_works_where_the_user_of_the_boxes_may_not_enter_the_parent_folders(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    mirror, commit = make_mirror(closed, FILES)
    box = make_sandbox(closed, unprivileged_uid=UID + 1).open(make_workspace(closed, mirror, commit))
    assert box.run("cat a.txt && echo more >> a.txt && git diff --stat | tail -1").exit == 0
    assert box.changed(commit) == ["a.txt"]
    box.close()


def test_the_path_inside_has_the_systems_folders(box: ShellBox) -> None:
    assert box.run("echo $PATH").output.strip() == PATH


def test_an_edit_of_the_same_size_in_the_same_second_is_what_runs(box: ShellBox) -> None:
    box.write("one.py", b"print(1)\n")
    box.write("main.py", b"import one\n")
    box.run("touch -d 2026-01-05T12:00:00Z one.py; python3 main.py")
    box.write("one.py", b"print(7)\n")
    assert box.run("touch -d 2026-01-05T12:00:00Z one.py; python3 main.py").output == "7\n"
    stale = "export PYTHONDONTWRITEBYTECODE=; touch -d 2026-01-05T12:00:00Z one.py; python3 main.py"
    box.run(stale)
    box.write("one.py", b"print(9)\n")
    assert box.run(stale).output == "7\n", "control: a compiled file hides it"
