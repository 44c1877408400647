"""The self-test finds what a broken sandbox lets through, and a sandbox that does not hold is refused."""

from __future__ import annotations

import dataclasses
import platform
import struct
import tempfile
import time
from pathlib import Path

import pytest
from boxes import make_sandbox

from graph.errors import Misconfigured, SandboxFailed
from integrations import seccomp
from integrations.bubblewrap import ISOLATION, Binary, Bubblewrap, find_binary
from integrations.hosts import explain
from integrations.sandbox import BoxSandbox, verify


def broken(folder: Path, **changes: object) -> BoxSandbox:
    sandbox = make_sandbox(folder)
    assert isinstance(sandbox.driver, Bubblewrap)
    return dataclasses.replace(sandbox, driver=dataclasses.replace(sandbox.driver, **changes))  # type: ignore[arg-type]


def holes(sandbox: BoxSandbox) -> set[str]:
    return {finding.name for finding in sandbox.self_test() if not finding.ok}


def without(*options: str) -> tuple[str, ...]:
    return tuple(option for option in ISOLATION if option not in options)


def test_bubblewrap_holds_against_every_attack_in_two_seconds(tmp_path: Path) -> None:
    sandbox = make_sandbox(tmp_path)
    began = time.monotonic()
    findings = sandbox.self_test()
    assert time.monotonic() - began < 2
    assert [finding for finding in findings if not finding.ok] == []
    assert len(findings) == 11
    verify(sandbox)
    assert list((tmp_path / "state").iterdir()) == []


def test_the_bare_process_lets_everything_through_and_the_self_test_says_so(tmp_path: Path) -> None:
    found = holes(make_sandbox(tmp_path, "process", process_accepted=True))
    assert found >= {
        "read a file of the operator", "read the environment of the bot", "write outside the checkout",
        "reach a TCP port of the host", "reach an abstract unix socket of the host",
        "reach a unix socket of the host by its path", "trace or kill the bot",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "hole"),
    [
        ({"isolation": without("--unshare-net")}, "reach a TCP port of the host"),
        ({"isolation": without("--unshare-net")}, "reach an abstract unix socket of the host"),
        ({"filter": b""}, "call io_uring, keyctl, bpf, perf or userfaultfd"),
        ({"filter": b"", "isolation": without("--disable-userns")}, "make a user namespace"),
    ],
)
def test_a_sandbox_with_a_part_missing_is_refused(tmp_path: Path, changes: dict[str, object], hole: str) -> None:
    sandbox = broken(tmp_path, **changes)
    assert hole in holes(sandbox)
    with pytest.raises(Misconfigured, match=f"does not hold.*{hole}"):
        verify(sandbox)


def test_files_of_the_operator_that_are_shown_by_mistake_are_found(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    assert holes(broken(tmp_path, toolchains=[tmp_path])) == {"read a file of the operator"}


def test_a_sandbox_that_does_not_start_is_refused_with_a_remedy(tmp_path: Path) -> None:
    liar = tmp_path / "bwrap"
    liar.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    temporary = Path(tempfile.gettempdir())
    for folder in (tmp_path, *tmp_path.parents):
        if temporary in folder.parents:
            folder.chmod(0o755)  # so that the user of the boxes can run it
    liar.chmod(0o755)
    sandbox = broken(tmp_path, binary=Binary(liar))
    with pytest.raises(SandboxFailed, match="No permissions to create new namespace"):
        sandbox.self_test()
    with pytest.raises(Misconfigured, match=r"does not start.*No permissions.*What to do: .*docker or podman"):
        verify(sandbox)


@pytest.mark.parametrize(
    ("error", "knobs", "words"),
    [
        ("setting up uid map: Permission denied", {"/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1"},
         "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"),
        ("No permissions to create new namespace", {"/proc/sys/kernel/unprivileged_userns_clone": "0"},
         "sysctl -w kernel.unprivileged_userns_clone=1"),
        ("Creating new namespace failed", {"/proc/sys/user/max_user_namespaces": "0"}, "user.max_user_namespaces"),
        ("Can't mount proc on /newroot/proc: Operation not permitted", {}, "procMount Unmasked"),
        ("Creating new namespace failed: Operation not permitted", {"/proc/sys/user/max_user_namespaces": "9"},
         "seccomp profile"),
        ("execvp: no such file", {}, "see the message above"),
    ],
)  # fmt: skip
def test_the_missing_knob_is_named(error: str, knobs: dict[str, str], words: str) -> None:
    assert words in explain(error, knobs)


def test_there_is_no_falling_back(tmp_path: Path) -> None:
    assert make_sandbox(tmp_path, "auto").name == "bubblewrap"
    with pytest.raises(Misconfigured, match="I_UNDERSTAND_THERE_IS_NO_SANDBOX=true"):
        make_sandbox(tmp_path, "process")
    with pytest.raises(Misconfigured, match="no docker on the PATH"):
        make_sandbox(tmp_path, "docker", search_path="/nowhere", image="x")
    (tmp_path / "docker").write_text("#!/bin/sh\n")
    (tmp_path / "docker").chmod(0o755)
    with pytest.raises(Misconfigured, match="SANDBOX_IMAGE"):
        make_sandbox(tmp_path, "docker", search_path=str(tmp_path))
    with pytest.raises(Misconfigured, match="no sandbox driver 'none'"):
        make_sandbox(tmp_path, "none")


def test_an_old_system_bubblewrap_is_passed_over_for_the_wheels(tmp_path: Path) -> None:
    for version, taken in (("0.7.0", False), ("0.8.0", True)):
        path = tmp_path / "bwrap"
        path.write_text(f"#!/bin/sh\necho bubblewrap {version}\n")
        path.chmod(0o755)
        assert (find_binary([str(tmp_path)]).path == path) is taken
    path.chmod(0o4755)
    assert find_binary([str(tmp_path)]).path != path


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_jump_of_the_filter_stays_inside_and_it_ends_with_a_verdict(machine: str) -> None:
    program = seccomp.program(machine)
    lines = [struct.unpack("=HBBI", program[at : at + 8]) for at in range(0, len(program), 8)]
    assert len(lines) < 4096
    assert lines[-1][0] == 0x06
    for number, (code, yes, no, _) in enumerate(lines):
        if code & 7 == 5:
            assert number + 1 + max(yes, no) < len(lines)
    assert seccomp.program("pdp11") == b""


@pytest.mark.parametrize(
    ("call", "verdict"),
    [
        ((101, 0, 0), "EPERM"), ((56, 0x10000000, 0), "EPERM"), ((56, 0x11, 0), "allow"), ((435, 0, 0), "ENOSYS"),
        ((16, 1, 0x5412), "EPERM"), ((16, 1, 0x5401), "allow"), ((41, 17, 0), "EAFNOSUPPORT"), ((41, 1, 0), "allow"),
        ((1, 0, 0), "allow"), ((0x40000001, 0, 0), "kill"),
    ],
)  # fmt: skip
def test_the_filter_decides_as_it_should(call: tuple[int, int, int], verdict: str) -> None:
    assert judged(seccomp.program("x86_64"), 0xC000003E, call) == verdict
    assert judged(seccomp.program("x86_64"), 0x40000003, call) == "kill"


def judged(program: bytes, arch: int, call: tuple[int, int, int]) -> str:
    """A small interpreter of the filter's language."""
    data = struct.pack("=IIQQQ", call[0], arch, 0, call[1], call[2])
    data = data[:16] + struct.pack("=QQ", call[1], call[2])
    loaded, at = 0, 0
    while True:
        code, yes, no, value = struct.unpack("=HBBI", program[8 * at : 8 * at + 8])
        at += 1
        if code == 0x20:
            (loaded,) = struct.unpack("=I", data[value : value + 4])
        elif code == 0x06:
            return {
                0x7FFF0000: "allow",
                0x80000000: "kill",
                0x50001: "EPERM",
                0x50026: "ENOSYS",
                0x50061: "EAFNOSUPPORT",
            }[value]
        else:
            met = {0x15: loaded == value, 0x35: loaded >= value, 0x45: bool(loaded & value)}[code]
            at += yes if met else no


def test_this_machine_has_a_filter() -> None:
    assert seccomp.program(platform.machine())
