"""The docker and podman driver, against an engine that knows only the flags it should be given."""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_engine
import pytest
from boxes import make_mirror, make_sandbox, make_workspace, processes, tree_of, wait_until

from graph.errors import BadInput, Misconfigured, SandboxFailed, Stopped
from graph.ports import Halt
from integrations.sandbox import BoxLimits, BoxSandbox, ShellBox, verify


def sandbox(folder: Path, name: str = "docker", **options: Any) -> BoxSandbox:
    (folder / "engine").mkdir(exist_ok=True)
    fake_engine.install(folder / "engine", name)
    given = {"search_path": str(folder / "engine"), "image": "image:1", "unprivileged_uid": os.geteuid(), **options}
    return make_sandbox(folder, name, **given)


def opened(folder: Path, **options: Any) -> tuple[ShellBox, Path, str]:
    mirror, commit = make_mirror(folder, {"a.txt": b"hello\n"})
    return sandbox(folder, **options).open(make_workspace(folder, mirror, commit)), mirror, commit


def containers(folder: Path) -> list[Path]:
    return list((folder / "engine").glob("threadwright-*.json"))


@pytest.mark.parametrize("name", ["docker", "podman"])
def test_commands_files_and_trees_pass_through_a_container(tmp_path: Path, name: str) -> None:
    mirror, commit = make_mirror(tmp_path, {"a.txt": b"hello\n"})
    box = sandbox(tmp_path, name).open(make_workspace(tmp_path, mirror, commit))
    done = box.run("cat a.txt - ; pwd; exit 3", stdin=b"from stdin\n")
    assert (done.exit, done.ended) == (3, "exit")
    assert done.output == "hello\nfrom stdin\n/workspace/checkout\n"
    box.write("new file", bytes(range(256)))
    assert box.read("new file") == bytes(range(256))
    assert box.changed(commit) == ["new file"]
    left = box.export(commit)
    assert tree_of(mirror, commit, left.pack, left.tree)["new file"] == ("100644", bytes(range(256)))
    box.reset(commit)
    with pytest.raises(BadInput):
        box.read("new file")
    box.close()
    box.close()
    with pytest.raises(SandboxFailed, match="closed"):
        box.run("true")
    wait_until(lambda: not containers(tmp_path))
    calls = [json.loads(line) for line in (tmp_path / "engine/calls.log").read_text().splitlines()]
    assert [call[0] for call in calls if call[0] != "exec"] == ["run", "rm"]


def test_limits_hold_and_daemons_end_with_their_command(tmp_path: Path) -> None:
    box, _, _ = opened(tmp_path)
    mark = f"22{secrets.randbelow(10**9)}"
    slow = box.run(f"(setsid sleep {mark} &); sleep {mark}", timeout=1.5)
    assert (slow.ended, slow.exit) == ("timeout", None)
    assert processes(f"sleep\0{mark}") == []
    quick = box.run(f"(setsid sleep {mark} > /dev/null 2>&1 &); sleep 0.1; echo started")
    assert quick.output == "started\n"
    assert processes(f"sleep\0{mark}") == []
    assert box.run("yes").ended == "output"
    box.close()


def test_a_stop_ends_the_command_and_refuses_the_next(tmp_path: Path) -> None:
    halt = Halt()
    box, _, _ = opened(tmp_path, halt=halt)
    mark = f"21{secrets.randbelow(10**9)}"
    ends: list[str] = []
    thread = threading.Thread(target=lambda: ends.append(box.run(f"sleep {mark}").ended))
    thread.start()
    wait_until(lambda: processes(f"sleep\0{mark}"))
    began = time.monotonic()
    halt.set()
    thread.join(5)
    assert ends == ["stopped"]
    assert time.monotonic() - began < 4
    assert processes(f"sleep\0{mark}") == []
    with pytest.raises(Stopped):
        box.run("true")
    box.close()


def test_a_container_ends_with_the_bot(tmp_path: Path) -> None:
    box, _, _ = opened(tmp_path)
    assert len(containers(tmp_path)) == 1
    # What the kernel does when the bot is killed: its end of the client's standard input closes.
    box._cell._process.stdin.close()  # type: ignore[attr-defined]
    wait_until(lambda: not containers(tmp_path) and box._cell._process.poll() is not None)  # type: ignore[attr-defined]
    assert box.run("cat a.txt").output == "hello\n"  # in a new one
    box.close()


def test_a_command_that_kills_the_container_is_a_red_run_and_the_next_works(tmp_path: Path) -> None:
    box, _, _ = opened(tmp_path)
    box.run("echo made > kept")
    done = box.run(f"kill -9 {box._cell._main}; sleep 5")  # type: ignore[attr-defined]
    assert (done.exit, done.ended) == (137, "exit")
    assert "the command killed the sandbox's own processes" in done.output
    assert box.run("cat kept").output == "made\n"
    box.close()


def test_the_engines_own_words_are_passed_on(tmp_path: Path) -> None:
    missing = sandbox(tmp_path, image="nosuch:1")
    with pytest.raises(Misconfigured, match=r"Unable to find image 'nosuch:1'.*docker run --rm nosuch:1 true"):
        verify(missing)
    mirror, commit = make_mirror(tmp_path / "a,b", {"a": b"a"})
    with pytest.raises(SandboxFailed, match="comma"):
        sandbox(tmp_path).open(make_workspace(tmp_path, mirror, commit))


def test_the_self_test_attacks_containers_too(tmp_path: Path) -> None:
    findings = {finding.name: finding.ok for finding in sandbox(tmp_path).self_test()}
    # The stand-in isolates files, processes and the network, but has no filter of system calls, as a real engine has.
    assert [name for name, ok in findings.items() if not ok] in (
        ["make a user namespace", "call io_uring, keyctl, bpf, perf or userfaultfd"],
        ["call io_uring, keyctl, bpf, perf or userfaultfd"],
    )


def test_a_workspace_that_grows_too_large_ends_the_command(tmp_path: Path) -> None:
    box, _, _ = opened(tmp_path, limits=BoxLimits(disk_bytes=20 << 20))
    assert box.run("for i in $(seq 900); do head -c 1000000 /dev/zero > f$i; sleep 0.02; done").ended == "disk"
    box.close()


def test_in_a_full_workspace_commands_can_only_delete_and_closed_folders_count(tmp_path: Path) -> None:
    box, _, commit = opened(tmp_path, limits=BoxLimits(disk_bytes=20 << 20))
    hide = "mkdir c; head -c 40000000 /dev/zero > c/big; chmod 000 c; sleep 20"
    assert box.run(hide, timeout=15).ended == "disk"
    more = box.run("head -c 1000000 /dev/zero > more; stat -c %s more")
    assert more.ended == "disk"
    assert "the workspace is full: delete something first" in more.output
    assert "\n0\n" in f"\n{more.output}"
    with pytest.raises(BadInput, match="the workspace is full"):
        box.write("a.txt", b"x")
    assert "more" in box.changed(commit)
    assert box.run("chmod 700 c; rm -rf c more").exit == 0
    assert box.run("echo x > y; cat y").output == "x\n"
    box.close()


def test_a_repositorys_image_goes_before_the_installations(tmp_path: Path) -> None:
    mirror, commit = make_mirror(tmp_path, {"a.txt": b"hello\n"})
    workspace = make_workspace(tmp_path, mirror, commit)
    other = sandbox(tmp_path, image="image:of-the-installation")
    with pytest.raises(SandboxFailed, match="Unable to find image 'image:of-the-installation'"):
        other.open(workspace)
    box = other.open(replace(workspace, image="image:1"))
    assert box.run("cat a.txt").output == "hello\n"
    box.close()


def test_what_was_installed_is_seen_in_a_container_read_only_with_its_programs_on_the_path(tmp_path: Path) -> None:
    mirror, commit = make_mirror(tmp_path, {"a.txt": b"hello\n"})
    program = tmp_path / "deps" / "venv" / "bin" / "greet"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho installed\n")
    program.chmod(0o755)
    workspace = replace(make_workspace(tmp_path, mirror, commit), deps=tmp_path / "deps")
    box = sandbox(tmp_path).open(workspace)
    assert box.run("greet").output == "installed\n"
    assert "Read-only" in box.run('touch "$THREADWRIGHT_DEPS/x"').output
    box.close()
