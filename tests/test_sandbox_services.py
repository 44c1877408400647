"""Commands that stay in a box, files that commands leave, variables for one command: the same under every driver."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fake_engine
import pytest
from boxes import make_mirror, make_sandbox, make_workspace, processes, wait_until

from graph.errors import BadInput, SandboxFailed
from graph.ports import Halt
from integrations.sandbox import BoxSandbox, ShellBox

SERVER = (
    "exec python3 -c \"import socket; s = socket.create_server(('127.0.0.1', {port})); print('up', flush=True)\n"
    "while True: s.accept()[0].sendall(b'hello {mark}')\""
)
ASK = "python3 -c \"import socket; print(socket.create_connection(('127.0.0.1', {port}), 2).recv(99).decode())\""


def sandbox_of(folder: Path, driver: str) -> BoxSandbox:
    if driver == "docker":
        (folder / "engine").mkdir(exist_ok=True)
        fake_engine.install(folder / "engine", "docker")
        search, uid = str(folder / "engine"), os.geteuid()
        return make_sandbox(folder, "docker", search_path=search, image="image:1", unprivileged_uid=uid)
    return make_sandbox(folder, driver, process_accepted=True)


@pytest.fixture(params=["bubblewrap", "docker", "process"])
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def box(tmp_path: Path, driver: str) -> Iterator[ShellBox]:
    mirror, commit = make_mirror(tmp_path, {"a.txt": b"hello\n"})
    opened = sandbox_of(tmp_path, driver).open(make_workspace(tmp_path, mirror, commit))
    yield opened
    opened.close()


def port() -> int:
    return 20_000 + secrets.randbelow(10_000)


def test_a_service_answers_commands_and_outlives_them(box: ShellBox) -> None:
    number, mark = port(), secrets.token_hex(8)
    box.serve("db", SERVER.format(port=number, mark=mark))
    wait_until(lambda: box.run(ASK.format(port=number)).exit == 0)
    for _ in range(3):
        assert box.run(ASK.format(port=number)).output.strip() == f"hello {mark}"
    assert box.served("db") is None
    before = processes(mark)
    box.serve("db", SERVER.format(port=number, mark=mark))
    assert processes(mark) == before, "one that runs is left alone"
    box.close()
    wait_until(lambda: not processes(mark))


def test_what_a_command_leaves_behind_still_ends_with_it_while_a_service_lives(box: ShellBox) -> None:
    number, mark, daemon = port(), secrets.token_hex(8), f"7{secrets.randbelow(10**8):08d}"
    box.serve("db", SERVER.format(port=number, mark=mark))
    wait_until(lambda: box.run(ASK.format(port=number)).exit == 0)
    box.run(f"setsid sleep {daemon} > /dev/null 2>&1 < /dev/null & sleep 0.05")
    assert processes(f"sleep\0{daemon}") == []
    assert box.served("db") is None


def test_children_of_a_service_live_and_end_with_it(box: ShellBox) -> None:
    child = f"8{secrets.randbelow(10**8):08d}"
    box.serve("db", f"sleep {child} & wait")
    wait_until(lambda: processes(f"sleep\0{child}"))
    box.run("true")
    assert processes(f"sleep\0{child}")
    box.close()
    wait_until(lambda: not processes(f"sleep\0{child}"))


def test_a_service_that_ends_says_how_and_can_be_started_again(box: ShellBox) -> None:
    box.serve("db", "echo cannot bind; exit 3")
    wait_until(lambda: box.served("db") is not None)
    ended = box.served("db")
    assert ended is not None
    assert (ended.exit, ended.output.strip()) == (3, "cannot bind")
    box.serve("db", "sleep 60")
    assert box.served("db") is None
    with pytest.raises(BadInput):
        box.served("cache")


def test_a_stop_ends_services_too(tmp_path: Path, driver: str) -> None:
    mirror, commit = make_mirror(tmp_path, {"a.txt": b"a"})
    halt, mark = Halt(), f"9{secrets.randbelow(10**8):08d}"
    opened = replace(sandbox_of(tmp_path, driver), halt=halt).open(make_workspace(tmp_path, mirror, commit))
    opened.serve("db", f"sleep {mark}")
    wait_until(lambda: processes(f"sleep\0{mark}"))
    halt.set("Ann")
    wait_until(lambda: opened.served("db") is not None)
    opened.close()
    wait_until(lambda: not processes(f"sleep\0{mark}"))


def test_a_command_may_have_variables_of_its_own_and_others_do_not_see_them(box: ShellBox) -> None:
    assert box.run('echo "<$COLOUR>"', env={"COLOUR": "a b'c"}).output == "<a b'c>\n"
    assert box.run('echo "<$COLOUR>"').output == "<>\n"


def test_what_is_left_in_scratch_is_read_and_is_no_part_of_the_change(box: ShellBox) -> None:
    box.run(f"printf 'x%.0s' 1 2 3 > {box.scratch}/report; ln -s /etc/passwd {box.scratch}/link")
    assert box.left("report") == b"xxx"
    assert box.left("report", limit=2) is None
    assert box.left("missing") is None
    with pytest.raises(BadInput):
        box.left("../checkout/a.txt")
    head = box.run("git rev-parse HEAD").output.strip()
    assert box.changed(head) == []


def test_a_closed_box_serves_nothing(box: ShellBox) -> None:
    box.close()
    box.serve("db", "sleep 60")
    wait_until(lambda: box.served("db") is not None)
    ended = box.served("db")
    assert ended is not None
    assert ended.ended == "stopped"
    with pytest.raises(SandboxFailed):
        box.run("true")
