"""Real clients through the forwarder, which runs as in a box; and that a box has no other way out."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import uv
from boxes import make_mirror, make_sandbox, make_workspace, wait_until
from doorstubs import LOOPBACK, Answer, Set, environment, forwarder, opened

from integrations import boxdoor
from integrations.doorrules import Host

BIG = os.urandom(5_000_000)


def wheel(folder: Path) -> bytes:
    """A package that is as small as they come."""
    path, about = folder / "leftpad-1.0-py3-none-any.whl", "leftpad-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("leftpad.py", "WIDTH = 7\n")
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: leftpad\nVersion: 1.0\n")
        archive.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{about}/RECORD", f"leftpad.py,,\n{about}/METADATA,,\n{about}/WHEEL,,\n{about}/RECORD,,\n")
    return path.read_bytes()


def index(folder: Path) -> dict[str, Answer]:
    """PyPI, as far as an installer of one package sees it."""
    data = wheel(folder)
    link = f'<a href="../../files/leftpad-1.0-py3-none-any.whl#sha256={hashlib.sha256(data).hexdigest()}">leftpad</a>'
    page = f"<!DOCTYPE html><html><body>{link}</body></html>".encode()
    return {
        "/simple/leftpad/": Answer(page, headers={"Content-Type": "text/html"}),
        "/files/leftpad-1.0-py3-none-any.whl": Answer(data),
        "/big": Answer(BIG), "/chunks": Answer(BIG, chunked=True),
        "/away": Answer(status=302, headers={"Location": "https://evil.com/"}),
    }  # fmt: skip


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Set]:
    def hosts(port: int) -> tuple[Host, ...]:
        return tuple(Host(name, port, "https", LOOPBACK) for name in ("pypi.org", "registry.npmjs.org"))

    with opened(tmp_path, index(tmp_path), hosts=hosts) as opened_set:
        yield opened_set


@pytest.fixture
def port(at: Set) -> Iterator[int]:
    with forwarder(at.door.socket) as number:
        yield number


def opener(at: Set, port: int) -> urllib.request.OpenerDirector:
    proxy = urllib.request.ProxyHandler({"http": f"http://127.0.0.1:{port}", "https": f"http://127.0.0.1:{port}"})
    trust = ssl.create_default_context(cafile=at.door.certificate)
    return urllib.request.build_opener(proxy, urllib.request.HTTPSHandler(context=trust))


def test_pythons_own_client_gets_what_is_allowed_and_reads_why_not(at: Set, port: int) -> None:
    client = opener(at, port)
    assert client.open(f"https://{at.at}/big").read() == BIG
    assert client.open(f"https://{at.at}/chunks").read() == BIG
    for url, why in (
        ("https://github.com/", "github.com is not among the hosts"),
        (f"https://{at.at}/away", "evil.com is not among the hosts"),
        ("http://127.0.0.1/", "by its name, not by its address"),
    ):
        with pytest.raises(OSError, match=why):
            client.open(url)
    with pytest.raises(urllib.error.HTTPError, match="405: POST: set-up may only GET and HEAD") as refused:
        client.open(f"https://{at.at}/simple/leftpad/", data=b"secret")
    refused.value.close()
    assert {line.partition(" ")[0].rstrip(":") for line in at.door.refused} >= {"github.com", "evil.com", "pypi.org"}


def test_uv_installs_through_the_door(at: Set, port: int, tmp_path: Path) -> None:
    into = tmp_path / "installed"
    command = [
        uv.find_uv_bin(), "pip", "install", "--no-config", "--no-cache", "--python", sys.executable, "--target", into,
        "--index-url", f"https://{at.at}/simple", "leftpad",
    ]  # fmt: skip
    env = {**environment(at.door, port), "HOME": str(tmp_path)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (into / "leftpad.py").read_text() == "WIDTH = 7\n"
    assert {seen.method for seen in at.registry.seen} <= {"GET", "HEAD"}


@pytest.mark.parametrize("client", [name for name in ("curl", "npm") if shutil.which(name)])
def test_other_clients_of_this_machine_get_through(at: Set, port: int, tmp_path: Path, client: str) -> None:
    env = {**environment(at.door, port), "HOME": str(tmp_path), "NODE_EXTRA_CA_CERTS": str(at.door.certificate)}
    # A `cafile` of the machine's own npm settings would come before Node's.
    env |= {"npm_config_cafile": str(at.door.certificate), "npm_config_fetch_retries": "0"}
    npm = f"registry.npmjs.org:{at.registry.port}"
    at.registry.answers["/left-pad"] = Answer(
        json.dumps({"name": "left-pad", "dist-tags": {"latest": "1.3.0"}, "versions": {"1.3.0": {
            "name": "left-pad", "version": "1.3.0", "dist": {"tarball": f"https://{npm}/left-pad.tgz"}}}}).encode()
    )  # fmt: skip
    commands = {
        "curl": ["curl", "-sSf", "--compressed", f"https://{npm}/left-pad"],
        "npm": ["npm", "--registry", f"https://{npm}/", "view", "left-pad", "versions", "--json"],
    }
    done = subprocess.run(commands[client], env=env, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert "1.3.0" in done.stdout


def test_the_forwarder_carries_many_at_once_and_outlives_those_who_hang_up(at: Set, port: int) -> None:
    client = opener(at, port)
    got: list[bytes] = []
    rude = [socket.create_connection(("127.0.0.1", port)) for _ in range(60)]
    for number, sock in enumerate(rude):
        if number % 2:
            sock.sendall(os.urandom(500))
        if number % 3:
            sock.close()
    threads = [
        threading.Thread(target=lambda: got.append(client.open(f"https://{at.at}/big").read())) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 20
    assert set(got) == {BIG}
    for sock in rude:
        sock.close()
    wait_until(lambda: len(at.door.sockets) == 0)


def test_more_connections_than_the_forwarder_holds_wait_for_their_turn(at: Set, port: int) -> None:
    many = [socket.create_connection(("127.0.0.1", port)) for _ in range(boxdoor._PAIRS + 50)]
    # The door ends idle ones to make room, and so those behind them come in.
    assert opener(at, port).open(f"https://{at.at}/big").read() == BIG
    for sock in many:
        sock.close()


def test_without_a_door_behind_it_the_forwarder_hangs_up_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with forwarder(path) as port:
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", port)) as sock:
                assert sock.recv(1) == b""
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            with socket.create_connection(("127.0.0.1", port)) as sock:
                other = listener.accept()[0]
                sock.sendall(b"ask")
                sock.shutdown(socket.SHUT_WR)  # what was asked has its answer even so
                assert (other.recv(9), other.recv(9)) == (b"ask", b"")
                other.sendall(b"answer")
                other.close()
                assert sock.recv(9) == b"answer"
                assert sock.recv(9) == b""


def test_the_forwarder_says_why_it_cannot_listen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [sys.executable, "-I", "-S", boxdoor.__file__, str(taken.getsockname()[1]), "/nowhere"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert (done.stdout, "Address already in use" in done.stderr) == ("", True)


# What a process in the box can do itself: past the forwarder, whatever it asks.
OTHER_WAYS = """
import json, socket, sys
host, tcp, udp = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
found = {}
def attempt(name, way):
    try:
        found[name] = bool(way())
    except OSError:
        found[name] = False
def send(to):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(1)
        sock.connect(to)  # so that a refusal is heard of
        sock.send(b"out")
        return sock.recv(10) == b"heard"
def connect(to):
    with socket.create_connection(to, timeout=1) as sock:
        return sock.recv(10) == b"heard"
attempt("tcp", lambda: connect((host, tcp)))
attempt("udp", lambda: send((host, udp)))
attempt("dns", lambda: socket.getaddrinfo("pypi.org", 443))
attempt("dns by hand", lambda: send(("192.0.2.53", 53)))
attempt("metadata", lambda: connect(("169.254.169.254", 80)))
attempt("abstract socket", lambda: socket.socket(socket.AF_UNIX).connect("\\0" + sys.argv[4]) or True)
print(json.dumps(found))
"""


class Listeners:
    """On the host's loopback, and an abstract socket: each says that it heard."""

    def __init__(self) -> None:
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.abstract = socket.socket(socket.AF_UNIX)
        self.name = f"threadwright-{os.getpid()}"
        self.abstract.bind(f"\0{self.name}")
        self.abstract.listen()
        for work in (self._answer_tcp, self._answer_udp):
            threading.Thread(target=work, daemon=True).start()

    def _answer_tcp(self) -> None:
        while True:
            try:
                sock = self.tcp.accept()[0]
            except OSError:
                return
            with sock:
                sock.sendall(b"heard")

    def _answer_udp(self) -> None:
        while True:
            try:
                _, sender = self.udp.recvfrom(100)
                self.udp.sendto(b"heard", sender)
            except OSError:
                return

    @property
    def arguments(self) -> list[str]:
        return ["127.0.0.1", str(self.tcp.getsockname()[1]), str(self.udp.getsockname()[1]), self.name]

    def close(self) -> None:
        for sock in (self.tcp, self.udp, self.abstract):
            sock.close()


def test_a_box_has_no_other_way_out_with_the_forwarder_and_without(tmp_path: Path) -> None:
    mirror, commit = make_mirror(tmp_path, {"a.txt": b"a"})
    listeners = Listeners()
    box = make_sandbox(tmp_path).open(make_workspace(tmp_path, mirror, commit))
    try:
        # The control: from outside of a box, those listeners are there.
        outside = subprocess.run(
            [sys.executable, "-c", OTHER_WAYS, *listeners.arguments], capture_output=True, text=True, check=True
        )
        reached = json.loads(outside.stdout)
        assert {name for name in ("tcp", "udp", "abstract socket") if reached[name]} == {
            "tcp",
            "udp",
            "abstract socket",
        }
        box.write("ways.py", OTHER_WAYS.encode())
        box.write("boxdoor.py", Path(boxdoor.__file__).read_bytes())
        ask = f"python3 ways.py {' '.join(listeners.arguments)}"
        nothing = dict.fromkeys(reached, False)
        assert json.loads(box.run(ask, timeout=30).output) == nothing
        box.serve("door", "python3 -I -S boxdoor.py 3128 /nowhere/socket > /tmp/said")
        wait_until(lambda: box.run("cat /tmp/said").output == "ready\n")
        assert json.loads(box.run(ask, timeout=30).output) == nothing
        assert box.served("door") is None
    finally:
        box.close()
        listeners.close()
