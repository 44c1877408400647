"""The system calls that a box refuses, as a BPF program for `bwrap --seccomp`. Built here: no libseccomp needed."""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass

_LD, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_CLONE_NEW = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET."""
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_FAMILIES = (1, 2, 10, 16)
"""AF_UNIX, AF_INET, AF_INET6, AF_NETLINK: what programs and their tests need."""


@dataclass(frozen=True)
class Machine:
    audit: int
    clone: int
    socket: int
    ioctl: int
    refused: tuple[int, ...]
    clone3: int = 435
    x32: bool = False


# The same on every machine: calls that were added after the numbers were unified.
_COMMON = (
    425, 426, 427,  # io_uring_setup, io_uring_enter, io_uring_register
    428, 429, 430, 431, 432, 433, 442,  # open_tree, move_mount, fsopen, fsconfig, fsmount, fspick, mount_setattr
    438, 440, 443,  # pidfd_getfd, process_madvise, quotactl_fd
)  # fmt: skip

MACHINES = {
    "x86_64": Machine(
        audit=0xC000003E, clone=56, socket=41, ioctl=16, x32=True,
        refused=(
            *_COMMON,
            165, 166, 155, 161, 272, 308,  # mount, umount2, pivot_root, chroot, unshare, setns
            321, 298, 323, 248, 249, 250,  # bpf, perf_event_open, userfaultfd, add_key, request_key, keyctl
            101, 310, 311, 312,  # ptrace, process_vm_readv, process_vm_writev, kcmp
            246, 320, 175, 313, 176,  # kexec_load, kexec_file_load, init_module, finit_module, delete_module
            167, 168, 169, 163, 179, 304, 212, 180,  # swapon … nfsservctl
            103, 164, 227, 305, 153, 300,  # syslog, settimeofday, clock_settime, clock_adjtime, vhangup, fanotify_init
            172, 173, 154, 134, 156, 139,  # iopl, ioperm, modify_ldt, uselib, _sysctl, sysfs
        ),
    ),
    "aarch64": Machine(
        audit=0xC00000B7, clone=220, socket=198, ioctl=29,
        refused=(
            *_COMMON,
            40, 39, 41, 51, 97, 268,  # mount, umount2, pivot_root, chroot, unshare, setns
            280, 241, 282, 217, 218, 219,  # bpf, perf_event_open, userfaultfd, add_key, request_key, keyctl
            117, 270, 271, 272,  # ptrace, process_vm_readv, process_vm_writev, kcmp
            104, 294, 105, 273, 106,  # kexec_load, kexec_file_load, init_module, finit_module, delete_module
            224, 225, 142, 89, 60, 265, 18, 42,  # swapon … nfsservctl
            116, 170, 112, 266, 58, 262,  # syslog, settimeofday, clock_settime, clock_adjtime, vhangup, fanotify_init
        ),
    ),
}  # fmt: skip


def _instruction(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)


def _load(offset: int) -> bytes:
    return _instruction(_LD, offset)


def _give(action: int) -> bytes:
    return _instruction(_RET, action)


def _argument(index: int) -> bytes:
    """Load the low half of an argument: both machines are little-endian."""
    return _load(_ARGUMENTS + 8 * index)


def _only(number: int, body: list[bytes]) -> list[bytes]:
    """`body` for that system call; for all others, go on behind it with the number still loaded."""
    return [_instruction(_JEQ, number, 0, len(body)), *body]


def program(machine: str) -> bytes:
    """The filter for `platform.machine()`; empty for a machine that has no table here."""
    table = MACHINES.get(machine)
    if table is None:
        return b""
    denied, no_family = _give(_ERRNO | errno.EPERM), _give(_ERRNO | errno.EAFNOSUPPORT)
    lines = [_load(_ARCH), _instruction(_JEQ, table.audit, 1, 0), _give(_KILL), _load(_NUMBER)]
    if table.x32:
        lines += [_instruction(_JGE, 0x40000000, 0, 1), _give(_KILL)]
    for number in table.refused:
        lines += _only(number, [denied])
    # clone3 hides its flags behind a pointer: "no such call" makes the C library fall back to clone.
    lines += _only(table.clone3, [_give(_ERRNO | errno.ENOSYS)])
    lines += _only(table.clone, [_argument(0), _instruction(_JSET, _CLONE_NEW, 0, 1), denied, _give(_ALLOW)])
    # Other bits of a request's upper half are ignored by the kernel, which compares 32 bits too.
    ioctl = [_argument(1), *_only(_TIOCSTI, [denied]), *_only(_TIOCLINUX, [denied]), _give(_ALLOW)]
    lines += _only(table.ioctl, ioctl)
    families = [line for family in _FAMILIES for line in _only(family, [_give(_ALLOW)])]
    lines += _only(table.socket, [_argument(0), *families, no_family])
    lines.append(_give(_ALLOW))
    return b"".join(lines)
