"""The door over real sockets: what passes, what does not, and what becomes of the door when either side misbehaves."""

from __future__ import annotations

import logging
import os
import socket
import ssl
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from boxes import UID, wait_until
from doorstubs import HOSTILE, LOOPBACK, Answer, Client, Names, Notes, Registry, Set, opened

from graph.errors import LeaseLost, SandboxFailed
from integrations import door as door_module
from integrations import doorwire
from integrations.door import CONNECTIONS, Door
from integrations.doorrules import DoorRules, Host

PAGE = {"/simple/": Answer(b"<a>", headers={"Content-Type": "text/html", "ETag": '"1"'})}
METADATA = "169.254.169.254"


def unlisted(port: int) -> tuple[Host, ...]:
    return (Host("pypi.org", port),)


def two_hosts(port: int) -> tuple[Host, ...]:
    return (Host("pypi.org", port, "https", LOOPBACK), Host("nexus.corp", port, "https", LOOPBACK))


def door_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("door")]


def test_a_page_passes_under_the_name_that_was_checked_and_is_noted_without_its_query(tmp_path: Path) -> None:
    with opened(tmp_path, PAGE) as at:
        reply = at.get("/simple/?token=secret", "Accept-Encoding: gzip", "Range: bytes=0-9", "X-Mine: 1")
        assert (reply.status, reply.body, reply.headers["etag"]) == (200, b"<a>", '"1"')
        (seen,) = at.registry.seen
        assert (seen.method, seen.path, seen.sni, seen.host) == ("GET", "/simple/?token=secret", "pypi.org", at.at)
        assert seen.headers == {"host": at.at, "accept-encoding": "gzip", "range": "bytes=0-9", "x-mine": "1"}
        wait_until(lambda: at.notes.lines)
        assert at.notes.lines == [
            {"method": "GET", "host": "pypi.org", "path": "/simple/", "status": 200, "bytes": 3, "refused": ""}
        ]
        assert (at.door.requests, at.door.refused) == (1, [])


def test_head_answers_and_empty_ones_pass_as_they_are(tmp_path: Path) -> None:
    answers = {
        "/big": Answer(headers={"Content-Length": "99999999999"}), "/gone": Answer(b"gone", 410),
        "/same": Answer(status=304),
        "/chunks": Answer(b"x" * 100_000, chunked=True),
    }  # fmt: skip
    with opened(tmp_path, answers) as at, at.client() as client:
        client.tunnel(at.at)
        reply = client.get(at.at, "/big", method="HEAD")
        assert (reply.status, reply.headers["content-length"], reply.body) == (200, "99999999999", b"")
        assert client.get(at.at, "/same").status == 304
        assert client.get(at.at, "/gone").body == b"gone"
        reply = client.get(at.at, "/chunks")
        assert reply.headers["transfer-encoding"] == "chunked"
        assert reply.body.count(b"x") == 100_000


def test_requests_of_one_connection_share_one_to_the_registry(tmp_path: Path) -> None:
    with opened(tmp_path, PAGE) as at, at.client() as client:
        client.tunnel(at.at)
        for _ in range(20):
            assert client.get(at.at, "/simple/").body == b"<a>"
        assert {seen.connection for seen in at.registry.seen} == {1}
        assert at.names.asked == ["pypi.org"]


def test_a_registry_that_hung_up_in_between_is_asked_again(tmp_path: Path) -> None:
    answers = {"/simple/": Answer(b"<a>", hangs_up_after=True)}
    with opened(tmp_path, answers) as at, at.client() as client:
        client.tunnel(at.at)
        for _ in range(3):
            assert client.get(at.at, "/simple/").body == b"<a>"
        assert [seen.connection for seen in at.registry.seen] == [1, 2, 3]
        # Each of them was a connection of its own, so each address was checked anew.
        assert at.names.asked == ["pypi.org"] * 3


def test_a_host_that_is_listed_with_http_is_asked_without_a_tunnel(tmp_path: Path) -> None:
    def hosts(port: int) -> tuple[Host, ...]:
        return (Host("mirror.corp", port, "http", LOOPBACK),)

    with opened(tmp_path, PAGE, hosts=hosts, plain=True) as at, at.client() as client:
        mirror = f"mirror.corp:{at.registry.port}"
        for _ in range(2):
            assert client.get(mirror, f"http://{mirror}/simple/").body == b"<a>"
        assert client.get(mirror, "/simple/").status == 400
        assert client.get("evil.com", f"http://{mirror}/simple/").status == 421
        assert client.get("evil.com", "http://evil.com/").status == 403
        assert client.tunnel(mirror).status == 403
        assert [seen.host for seen in at.registry.seen] == [mirror, mirror]


def test_http_of_the_old_version_passes_too(tmp_path: Path) -> None:
    with opened(tmp_path, PAGE) as at, at.client() as client:
        assert client.ask(f"CONNECT {at.at} HTTP/1.0\r\n\r\n".encode(), head_only=True).status == 200
        trust = ssl.create_default_context(cadata=at.door.certificate.read_text())
        client.sock = trust.wrap_socket(client.sock, server_hostname="pypi.org")
        assert client.ask(b"GET /simple/ HTTP/1.0\r\n\r\n").body == b"<a>"


# What may not pass.


# White space around a header's value is not part of it.
@pytest.mark.parametrize("name", [name for name in HOSTILE if name != " pypi.org"])
def test_a_hostile_name_leads_nowhere(tmp_path: Path, name: str) -> None:
    with opened(tmp_path, PAGE) as at:
        for head in (
            f"CONNECT {name}:{at.registry.port} HTTP/1.1\r\nHost: {at.at}\r\n\r\n",
            f"CONNECT {at.at} HTTP/1.1\r\nHost: {name}:{at.registry.port}\r\n\r\n",
            f"GET http://{name}:{at.registry.port}/ HTTP/1.1\r\nHost: {name}:{at.registry.port}\r\n\r\n",
        ):
            with at.client() as client:
                reply = client.ask(head.encode())
                assert 400 <= reply.status < 500
                assert "\0" not in reply.phrase
        assert at.names.asked == []
        assert at.get("/simple/").status == 200


def test_what_was_refused_is_told_once_with_what_to_do(tmp_path: Path) -> None:
    with opened(tmp_path, PAGE) as at:
        for _ in range(3):
            with at.client() as client:
                reply = client.tunnel("github.com:443")
                # Clients show the phrase, if anything.
                assert (reply.status, reply.phrase) == (403, reply.body.decode().strip())
        assert at.door.refused == ["github.com is not among the hosts that set-up may reach (SETUP_HOSTS)"]
        assert [line["host"] for line in at.notes.lines] == ["github.com"] * 3


def test_an_allowed_name_that_leads_inside_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path, PAGE, hosts=unlisted) as at:
        reply = at.get("/simple/")
        assert (reply.status, reply.phrase) == (403, "pypi.org: its address 127.0.0.1 is not public")
        assert (at.registry.connections, at.door.refused) == (0, [reply.phrase])
    with opened(tmp_path, PAGE) as at:  # the control: with its network named, the very same request arrives
        assert at.get("/simple/").status == 200


class NaiveNames(Names):
    """As a door would ask that checks one answer and dials another."""

    def dialled(self) -> str:
        checked = self("pypi.org", 443)
        assert METADATA not in checked
        return self("pypi.org", 443)[0]


REBINDING = {"pypi.org": [["127.0.0.1"], [METADATA]]}


def test_a_name_that_changes_its_address_is_dialled_where_it_was_checked(tmp_path: Path) -> None:
    with opened(tmp_path, PAGE, names=Names(REBINDING)) as at:
        assert at.get("/simple/").status == 200
        assert (at.names.asked, at.registry.connections) == (["pypi.org"], 1)
        assert at.get("/simple/").phrase == f"pypi.org: its address {METADATA} is never reached from set-up"
        assert at.names.asked == ["pypi.org"] * 2
    # The control: these answers do lead a door astray that resolves twice.
    assert NaiveNames(REBINDING).dialled() == METADATA


@pytest.mark.parametrize(
    "answers", [["127.0.0.1", METADATA], [METADATA, "127.0.0.1"], ["127.0.0.1", "::ffff:10.0.0.1"]]
)
def test_one_bad_address_spoils_the_good_ones(tmp_path: Path, answers: list[str]) -> None:
    with opened(tmp_path, PAGE, names=Names({"pypi.org": [answers, ["127.0.0.1"]]})) as at:
        assert at.get("/simple/").status == 403
        assert at.registry.connections == 0
        assert at.get("/simple/").status == 200


def test_the_next_checked_address_is_tried_when_one_does_not_answer(tmp_path: Path) -> None:
    with opened(tmp_path, PAGE, names=Names({"pypi.org": [["127.0.0.9", "127.0.0.1"]]})) as at:
        assert at.get("/simple/").status == 200
    with opened(tmp_path, PAGE, names=Names({"pypi.org": [["127.0.0.9"], []]})) as at:
        assert [at.get("/simple/").status for _ in range(2)] == [502, 502]
        assert at.door.refused == []  # an outage, and nothing that a setting would mend


def test_a_redirect_is_the_clients_to_follow_and_is_judged_then(tmp_path: Path) -> None:
    answers = {"/to": Answer(status=302, headers={"Location": f"http://{METADATA}/latest/"})}
    with opened(tmp_path, answers) as at:
        reply = at.get("/to")
        assert (reply.status, reply.headers["location"]) == (302, f"http://{METADATA}/latest/")
        with at.client() as client:
            assert client.get(METADATA, reply.headers["location"]).status == 400
            assert client.tunnel(f"{METADATA}:80").status == 400
        assert len(at.registry.seen) == 1


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "get"])
def test_only_get_and_head_pass_and_the_answer_says_why(tmp_path: Path, method: str) -> None:
    with opened(tmp_path, PAGE) as at, at.client() as client:
        client.tunnel(at.at)
        for _ in range(2):  # the connection goes on
            reply = client.get(at.at, "/simple/", method=method)
            assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")
            assert b"may only GET and HEAD" in reply.body
        assert client.get(at.at, "/simple/").status == 200
        assert [seen.method for seen in at.registry.seen] == ["GET"]
        assert at.notes.lines[0]["path"] == "/simple/"


def test_a_publication_is_refused_with_an_answer_that_can_be_read(tmp_path: Path) -> None:
    with opened(tmp_path, PAGE) as at, at.client() as client:
        client.tunnel(at.at)
        body = "x" * 200_000
        reply = client.get(at.at, "/left-pad", f"Content-Length: {len(body)}\r\n\r\n{body}", method="PUT")
        assert (reply.status, reply.headers["connection"]) == (405, "close")
        assert at.registry.connections == 0


@pytest.mark.parametrize(
    "headers",
    [
        ("Upgrade: websocket", "Connection: Upgrade"), ("Upgrade: h2c",), ("Content-Length: 5\r\n\r\nhello",),
        ("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0",), ("Transfer-Encoding: chunked\r\n\r\n0",),
        ("Content-Length: 5", "Transfer-Encoding: chunked\r\n\r\n0"), ("Content-Length: 5", "Content-Length: 6"),
        ("Transfer-Encoding: gzip, chunked",), ("Transfer-Encoding : chunked",), ("Content-Length: +5",),
        ("Content-Length: 0x5",),
        ("X: a\r\n b",), ("X: a\0b",), ("X: a\rb",), (" X: a",), ("X a",), ("X\0: a",), ("Host: evil.com",),
        ("X: \x01",),
    ],
)  # fmt: skip
def test_nothing_is_smuggled_in_beside_a_request(tmp_path: Path, headers: tuple[str, ...]) -> None:
    with opened(tmp_path, PAGE) as at:
        with at.client() as client:
            client.tunnel(at.at)
            reply = client.get(at.at, "/simple/", *headers)
        # Folding and control characters are for h11 to judge; if it reads a header, the registry gets it in one line.
        if reply.status == 200:
            assert headers in {("X: a\r\n b",), ("X: \x01",)}
            assert len(at.registry.seen) == 1
        else:
            assert reply.status in {400, 403, 413}
            assert at.registry.seen == []
        assert at.get("/simple/").status == 200


def test_each_of_several_requests_sent_at_once_is_judged(tmp_path: Path) -> None:
    with opened(tmp_path, PAGE) as at, at.client() as client:
        client.tunnel(at.at)
        good = f"GET /simple/ HTTP/1.1\r\nHost: {at.at}\r\n\r\n"
        client.send((good + good + good.replace("GET", "POST") + good).encode())
        data = b""
        while data.count(b"HTTP/1.1") < 4 or not data.endswith(b"<a>"):
            data += client.sock.recv(1 << 16)
        assert [part[1:4] for part in data.split(b"HTTP/1.1")[1:]] == [b"200", b"200", b"405", b"200"]
        assert len(at.registry.seen) == 3


@pytest.mark.parametrize(
    "host", ["evil.com", "nexus.corp", "pypi.org", "pypi.org:80", "pypi.org.evil.com", "127.0.0.1", ""]
)
def test_a_tunnel_serves_the_host_that_it_was_opened_for_alone(tmp_path: Path, host: str) -> None:
    with opened(tmp_path, PAGE, hosts=two_hosts) as at, at.client() as client:
        client.tunnel(at.at)
        assert client.get(host, "/simple/").status in {400, 421}
        assert client.get(at.at, f"https://nexus.corp:{at.registry.port}/simple/").status == 421
        assert client.get(at.at, f"http://{at.at}/simple/").status == 403
        assert at.registry.connections == 0
        assert client.get(at.at, f"https://{at.at}/simple/").status == 200
        assert at.registry.seen[0].path == "/simple/"


def test_a_tunnel_within_a_tunnel_leads_nowhere(tmp_path: Path) -> None:
    with opened(tmp_path, PAGE, hosts=two_hosts) as at, at.client() as client:
        client.tunnel(at.at)
        inner = f"CONNECT nexus.corp:{at.registry.port} HTTP/1.1\r\nHost: {at.at}\r\n\r\n"
        assert client.ask(inner.encode()).status == 400
        assert at.registry.connections == 0


def test_an_answer_that_says_it_is_too_large_is_refused_and_one_that_grows_is_cut_off(tmp_path: Path) -> None:
    answers = {"/says": Answer(b"x" * 5000), "/grows": Answer(b"x" * 5000, chunked=True), "/fits": Answer(b"x" * 4000)}
    with opened(tmp_path, answers, response_bytes=4000) as at:
        reply = at.get("/says")
        assert (reply.status, reply.phrase) == (403, "this answer is larger than the 4000 bytes that it may be")
        reply = at.get("/grows")
        assert reply.status == 200
        assert not reply.body.endswith(b"0\r\n\r\n")
        assert reply.body.count(b"x") <= 4000
        assert at.get("/fits").body == b"x" * 4000
        assert at.door.refused[1] == "pypi.org: this answer is larger than 4000 bytes"


def test_all_answers_together_have_a_limit(tmp_path: Path) -> None:
    with opened(tmp_path, {"/x": Answer(b"x" * 4000)}, total_bytes=10_000) as at:
        got = [at.get("/x") for _ in range(4)]
        assert [len(reply.body) for reply in got[:2]] == [4000, 4000]
        assert all(len(reply.body) < 4000 for reply in got[2:])
        assert "pypi.org: set-up has loaded more than 10000 bytes in all" in at.door.refused


def test_requests_and_what_they_carry_out_have_a_limit(tmp_path: Path) -> None:
    with opened(tmp_path, PAGE, requests=3) as at, at.client() as client:
        client.tunnel(at.at)
        assert [client.get(at.at, "/simple/").status for _ in range(6)] == [200, 200, 200, 403, 403, 403]
        assert [line["status"] for line in at.notes.lines] == [200, 200, 200, 403]
    with opened(tmp_path, PAGE, upload_bytes=9000) as at:
        got = [at.get("/simple/?" + "x" * 4000).status for _ in range(4)]
        assert got == [200, 200, 403, 403]
    with opened(tmp_path, PAGE) as at:
        assert at.get("/simple/?" + "x" * 15_000).status == 200
        assert at.get("/simple/?" + "x" * 17_000).status == 400
        assert at.get("/simple/", *[f"X-{n}: {'x' * 1000}" for n in range(17)]).status == 400
        assert at.get("/simple/?" + "x" * 200_000).status == 400


def test_credentials_are_added_to_their_prefix_and_told_to_nobody(tmp_path: Path, caplog: Any) -> None:
    caplog.set_level(logging.DEBUG)
    answers = {
        "/npm/x": Answer(b"mine"), "/other": Answer(b"theirs"),
        "/npm/away": Answer(status=302, headers={"Location": "https://evil.com/"}),
        "/npm/broken": Answer(raw=b"nonsense\r\n\r\n"),
    }  # fmt: skip

    def credentials(port: int) -> dict[str, str]:
        return {f"https://nexus.corp:{port}/npm/": "Bearer s3cret"}

    with opened(tmp_path, answers, hosts=two_hosts, credentials=credentials) as at:
        nexus = f"nexus.corp:{at.registry.port}"
        with at.client() as client:
            client.tunnel(nexus)
            for path in ("/npm/x", "/other", "/npm/away", "/npm/%2e%2e/other", "/npm/broken"):
                reply = client.get(nexus, path, "Authorization: Bearer of-the-box", "Cookie: a=b")
                assert "s3cret" not in f"{reply.headers}{reply.body!r}{reply.phrase}"
        at.get("/npm/x", "Authorization: Bearer of-the-box")
        told = {(seen.host, seen.path): seen.headers.get("authorization") for seen in at.registry.seen}
        assert told == {
            (nexus, "/npm/x"): "Bearer s3cret", (nexus, "/other"): None, (nexus, "/npm/away"): "Bearer s3cret",
            (nexus, "/npm/%2e%2e/other"): None, (nexus, "/npm/broken"): "Bearer s3cret", (at.at, "/npm/x"): None,
        }  # fmt: skip
        assert "s3cret" not in f"{at.notes.lines}{at.door.refused}{caplog.text}"


def test_the_registry_of_these_tests_complains_about_what_the_door_keeps_back() -> None:
    """The control of all the tests here that end without a complaint."""
    registry = Registry(PAGE)
    try:
        for head in (
            "GET /simple/ HTTP/1.1\r\nHost: pypi.org\r\nCookie: a=b",
            "GET / HTTP/1.1\r\nHost: evil.com",
            "PUT / HTTP/1.1\r\nHost: pypi.org",
        ):
            plain = socket.create_connection(("127.0.0.1", registry.port))
            with registry.trust.wrap_socket(plain, server_hostname="pypi.org") as sock:
                sock.sendall(f"{head}\r\n\r\n".encode())
                sock.recv(1000)
        assert [complaint.split(":")[0] for complaint in registry.complaints] == [
            "these do not belong here", "Host evil.com under the name pypi.org", "PUT reached the registry",
        ]  # fmt: skip
    finally:
        registry.close()


# Registries that misbehave.


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000,
        b"\x16\x03\x01\x02\x00", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
    ],
)  # fmt: skip
def test_a_registry_that_talks_nonsense_is_an_outage(tmp_path: Path, raw: bytes) -> None:
    with opened(tmp_path, {**PAGE, "/x": Answer(raw=raw)}) as at, at.client() as client:
        client.tunnel(at.at)
        assert client.get(at.at, "/simple/").status == 200
        assert client.get(at.at, "/x").status == 502
        assert client.get(at.at, "/simple/").status == 200
        assert at.door.refused == []


def test_an_answer_that_breaks_off_breaks_off_for_the_client_too(tmp_path: Path) -> None:
    short = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello"
    with opened(tmp_path, {"/x": Answer(raw=short)}) as at:
        reply = at.get("/x")
        assert (reply.headers["content-length"], reply.body) == ("100", b"hello")
        wait_until(lambda: at.notes.lines)
        assert at.notes.lines[0]["refused"] == "pypi.org broke off in the middle of an answer"


def test_of_two_lengths_of_an_answer_the_one_that_counted_is_passed_on(tmp_path: Path) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\nAlt-Svc: h3\r\n\r\n"
    both = head + b"5\r\nhello\r\n0\r\n\r\n"
    with opened(tmp_path, {"/x": Answer(raw=both)}) as at:
        reply = at.get("/x")
        assert "content-length" not in reply.headers
        assert "alt-svc" not in reply.headers
        assert reply.body == b"5\r\nhello\r\n0\r\n\r\n"


def test_a_registry_with_a_certificate_of_its_own_making_is_refused(tmp_path: Path) -> None:
    registry, notes = Registry(PAGE), Notes()
    rules = DoorRules((Host("pypi.org", registry.port, "https", LOOPBACK),))
    stranger = Registry({})
    try:
        for trust, status in ((None, 502), (stranger.trust, 502), (registry.trust, 200)):
            with Door(tmp_path / "door", rules, notes, resolve=Names(), tls=trust) as door, Client(door) as client:
                client.tunnel(f"pypi.org:{registry.port}")
                assert client.get(f"pypi.org:{registry.port}", "/simple/").status == status
        assert "certificate that is not valid" in notes.lines[0]["refused"]
        assert len(registry.seen) == 1
    finally:
        registry.close()
        stranger.close()


# Clients that misbehave.


def test_a_client_that_does_not_trust_the_door_is_noted(tmp_path: Path) -> None:
    with opened(tmp_path, PAGE) as at:
        with at.client() as client:
            client.ask(f"CONNECT {at.at} HTTP/1.1\r\nHost: {at.at}\r\n\r\n".encode(), head_only=True)
            with pytest.raises(ssl.SSLCertVerificationError):
                ssl.create_default_context().wrap_socket(client.sock, server_hostname="pypi.org")
        wait_until(lambda: at.notes.lines)
        assert "TLSV1_ALERT_UNKNOWN_CA" in at.notes.lines[0]["refused"]


def misbehave(at: Set, how: int) -> None:
    """One connection that is of no use, in one of several ways."""
    connect = f"CONNECT {at.at} HTTP/1.1\r\nHost: {at.at}\r\n\r\n".encode()
    client = at.client()
    if how == 0:
        client.send(os.urandom(2000))
    elif how == 1:
        client.send(b"GET / HT")
    elif how == 2:
        client.send(connect + b"\x16\x03\x01")
    elif how == 3:
        client.ask(connect, head_only=True)
        client.send(os.urandom(2000))
    elif how == 4:
        client.ask(connect, head_only=True)
    elif how == 5:
        client.tunnel(at.at)
        client.send(b"GET /big HTTP/1.1\r\nHost: " + at.at.encode() + b"\r\n\r\n")
        client.sock.recv(10)
    elif how == 6:
        client.tunnel(at.at)
        client.send(os.urandom(2000))
    client.sock.close()


def test_clients_that_hang_up_and_send_garbage_leave_nothing_behind(tmp_path: Path, caplog: Any) -> None:
    with opened(tmp_path, {**PAGE, "/big": Answer(b"x" * 3_000_000)}) as at:
        for _ in range(5):
            threads = [threading.Thread(target=misbehave, args=(at, how)) for how in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert at.get("/simple/").status == 200
        wait_until(lambda: len(door_threads()) == 1 and len(at.door.sockets) == 0)
    assert door_threads() == []
    assert caplog.text == ""


def test_connections_that_do_nothing_make_room_for_those_that_do(tmp_path: Path) -> None:
    with opened(tmp_path, PAGE) as at:
        idle = [at.client() for _ in range(CONNECTIONS + 30)]
        assert at.get("/simple/").status == 200
        assert len(door_threads()) <= CONNECTIONS + 1
        for client in idle:
            client.sock.close()
        wait_until(lambda: len(door_threads()) == 1)


def test_a_head_that_drips_and_a_connection_that_says_nothing_end(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(doorwire, "IDLE_SECONDS", 0.1)
    monkeypatch.setattr(doorwire, "HEAD_SECONDS", 0.3)
    with opened(tmp_path, PAGE) as at, at.client() as quiet, at.client() as dripping:
        began = time.monotonic()

        def drip() -> bool:
            try:
                dripping.send(b"G")
            except OSError:
                return True
            return False

        wait_until(drip)
        assert quiet.sock.recv(1) == b""
        assert time.monotonic() - began < 5
        wait_until(lambda: len(door_threads()) == 1)


def test_fifty_clients_at_once_are_served(tmp_path: Path) -> None:
    with opened(tmp_path, {"/x": Answer(os.urandom(1 << 20))}) as at:
        got: list[bytes] = []

        def fetch() -> None:
            with at.client() as client:
                client.tunnel(at.at)
                got.extend(client.get(at.at, "/x").body for _ in range(2))

        threads = [threading.Thread(target=fetch) for _ in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) == 100
        assert set(got) == {at.registry.answers["/x"].body}


# The door itself.


def test_a_door_closes_at_once_under_those_who_wait(tmp_path: Path) -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    port = silent.getsockname()[1]
    hosts = (Host("silent.corp", port, "https", LOOPBACK),)
    with opened(tmp_path, {"/waits": Answer(waits=True)}, hosts=lambda at: (*two_hosts(at), *hosts)) as at:
        quiet, half, handshaking, asking, dialling = (at.client() for _ in range(5))
        half.send(b"GET /")
        handshaking.ask(f"CONNECT {at.at} HTTP/1.1\r\nHost: {at.at}\r\n\r\n".encode(), head_only=True)
        asking.tunnel(at.at)
        asking.send(f"GET /waits HTTP/1.1\r\nHost: {at.at}\r\n\r\n".encode())
        dialling.tunnel(f"silent.corp:{port}")
        dialling.send(f"GET / HTTP/1.1\r\nHost: silent.corp:{port}\r\n\r\n".encode())
        wait_until(lambda: at.registry.seen and len(at.names.asked) == 2 and len(door_threads()) == 6)
        began = time.monotonic()
        at.door.close()
        assert time.monotonic() - began < 2
        assert door_threads() == []
        assert not at.door.socket.exists()
        for client in (quiet, half, handshaking, asking, dialling):
            client.sock.close()
    silent.close()


def test_a_resolver_that_hangs_does_not_hold_the_door(tmp_path: Path, monkeypatch: Any, caplog: Any) -> None:
    monkeypatch.setattr(door_module, "_CLOSE_SECONDS", 0.2)
    released, asked = threading.Event(), threading.Event()

    def hang(name: str, port: int) -> list[str]:
        asked.set()
        released.wait(20)
        return ["127.0.0.1"]

    with opened(tmp_path, PAGE, names=hang) as at, at.client() as client:  # type: ignore[arg-type]
        client.tunnel(at.at)
        client.send(f"GET /simple/ HTTP/1.1\r\nHost: {at.at}\r\n\r\n".encode())
        asked.wait(10)
        at.door.close()
        assert "still wait for a name" in caplog.text
        released.set()
        wait_until(lambda: door_threads() == [])
        assert at.registry.connections == 0


def test_what_cannot_be_noted_closes_the_door_and_the_error_is_kept(tmp_path: Path, caplog: Any) -> None:
    with opened(tmp_path, PAGE) as at:
        assert at.get("/simple/").status == 200
        wait_until(lambda: at.notes.lines)
        at.notes.fails = LeaseLost("another worker has it")
        at.get("/simple/")
        wait_until(lambda: at.door.error is not None)
        wait_until(lambda: door_threads() == [])
        assert at.door.error is at.notes.fails
        with pytest.raises(OSError):
            at.client().tunnel(at.at)
        assert "cannot be noted" in caplog.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_of_ours_is_logged_and_ends_its_connection_alone(tmp_path: Path, caplog: Any) -> None:
    class BrokenNames(Names):
        def __call__(self, name: str, port: int) -> list[str]:
            if not self.asked:
                super().__call__(name, port)
                raise ZeroDivisionError("planted")
            return super().__call__(name, port)

    with opened(tmp_path, PAGE, names=BrokenNames()) as at:
        reply = at.get("/simple/")
        assert (reply.status, reply.body) == (0, b"")
        assert at.get("/simple/").status == 200
    assert "ended by an error of ours" in caplog.text
    assert "planted" in caplog.text


def test_the_folder_holds_a_socket_and_a_certificate_for_the_user_of_the_box_alone(tmp_path: Path) -> None:
    folder = tmp_path / "door"
    folder.mkdir()
    (tmp_path / "precious").write_text("precious")
    (folder / "ca.pem").symlink_to(tmp_path / "precious")
    with Door(folder, DoorRules(), Notes(), owner=UID if os.geteuid() == 0 else None) as door:
        assert {path.name for path in folder.iterdir()} == {"socket", "ca.pem"}
        pem = door.certificate.read_text()
        assert (pem.count("-----BEGIN"), pem.count("BEGIN CERTIFICATE")) == (1, 1)
        owner = UID if os.geteuid() == 0 else os.geteuid()
        for path, mode in ((folder, 0o700), (door.socket, 0o600)):
            found = path.stat()
            assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (owner, mode)
    assert list(folder.iterdir()) == []
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_folder_where_no_door_can_be_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SandboxFailed, match="too long a path for a socket"):
        Door(tmp_path / ("x" * 100), DoorRules(), Notes())
    (tmp_path / "file").touch()
    with pytest.raises(SandboxFailed, match="cannot be opened"):
        Door(tmp_path / "file", DoorRules(), Notes())
    assert door_threads() == []


def test_two_doors_do_not_trust_each_other(tmp_path: Path) -> None:
    with opened(tmp_path / "a", PAGE) as one, opened(tmp_path / "b", PAGE) as other, one.client() as client:
        client.ask(f"CONNECT {one.at} HTTP/1.1\r\nHost: {one.at}\r\n\r\n".encode(), head_only=True)
        trust = ssl.create_default_context(cadata=other.door.certificate.read_text())
        with pytest.raises(ssl.SSLCertVerificationError):
            trust.wrap_socket(client.sock, server_hostname="pypi.org")
