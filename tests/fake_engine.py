"""A stand-in for docker and podman: knows the flags that our driver uses and no others, and really runs containers,
made by bubblewrap and entered by nsenter. Written to a file with `install`; run as a program it is the client.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

RUN_FLAGS = {"--interactive", "--rm", "--init", "--read-only"}
RUN_OPTIONS = {
    "--name", "--label", "--network", "--cap-drop", "--security-opt", "--tmpfs", "--shm-size", "--pids-limit",
    "--memory", "--memory-swap", "--ulimit", "--user", "--workdir", "--mount", "--env", "--entrypoint",
}  # fmt: skip
MUST = {
    "--network": "none", "--cap-drop": "ALL", "--security-opt": "no-new-privileges", "--workdir": "/workspace",
    "--label": "threadwright=box", "--entrypoint": "/bin/sh",
}  # fmt: skip


def install(folder: Path, name: str = "docker") -> Path:
    """Make `folder/name` the engine's client; it keeps its containers, and a log of its calls, in `folder`."""
    from integrations.bubblewrap import find_binary, interpreter

    binary = find_binary()
    about = {"bwrap": str(binary.path), "libraries": str(binary.libraries or ""), "python": str(interpreter())}
    (folder / "engine.json").write_text(json.dumps(about))
    client = folder / name
    client.write_text(f"#!{interpreter()} -IS\n" + Path(__file__).read_text())
    client.chmod(0o755)
    return client


def parse(words: list[str], flags: set[str], options: set[str]) -> tuple[dict[str, list[str]], list[str]]:
    found: dict[str, list[str]] = {}
    while words and words[0].startswith("-"):
        word = words.pop(0)
        if word in flags:
            found[word] = []
        elif word in options:
            found.setdefault(word, []).append(words.pop(0))
        else:
            sys.exit(f"unknown flag: {word}")
    return found, words


def run(home: Path, words: list[str]) -> int:
    options, rest = parse(words, RUN_FLAGS, RUN_OPTIONS | {"--userns"})
    for option, value in MUST.items():
        if options.get(option) != [value]:
            sys.exit(f"{option} is not {value}")
    if missing := (RUN_FLAGS | RUN_OPTIONS) - set(options):
        sys.exit(f"missing: {sorted(missing)}")
    if rest[0] != "image:1":
        sys.exit(f"Unable to find image '{rest[0]}' locally")
    (name,) = options["--name"]
    about = json.loads((home / "engine.json").read_text())
    prefix = str(Path(about["python"]).parent.parent)
    argv = [about["bwrap"], "--unshare-all", "--uid", options["--user"][0].split(":")[0], "--cap-drop", "ALL"]
    argv += [
        "--ro-bind",
        "/usr",
        "/usr",
        "--proc",
        "/proc",
        "--tmpfs",
        "/dev",
        "--tmpfs",
        "/tmp",
        "--ro-bind",
        prefix,
        prefix,
    ]
    for folder in ("bin", "sbin", "lib", "lib64"):
        if Path("/", folder).is_symlink():
            argv += ["--symlink", str(Path("/", folder).readlink()), "/" + folder]
    for mount in options["--mount"]:
        pairs = dict(part.partition("=")[::2] for part in mount.split(","))
        assert pairs.pop("type") == "bind"
        argv += ["--ro-bind" if "readonly" in pairs else "--bind", pairs["source"], pairs["target"]]
    # Not --dev, which takes a user namespace within the user namespace: nsenter could not follow.
    for device in ("null", "zero", "urandom"):
        argv += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    argv += ["--chdir", "/workspace", "--remount-ro", "/dev", "--remount-ro", "/", "--die-with-parent"]
    env = dict(pair.partition("=")[::2] for pair in options["--env"])
    env["PATH"] = "/usr/local/bin:/usr/bin:/bin"
    read, write = os.pipe()
    held, release = os.pipe()
    outer = {"LD_LIBRARY_PATH": about["libraries"]} if about["libraries"] else {}
    argv += ["--info-fd", str(write), "--block-fd", str(held), "--clearenv"]
    argv += [word for pair in env.items() for word in ("--setenv", *pair)]
    with subprocess.Popen([*argv, *options["--entrypoint"], *rest[1:]], pass_fds=[write, held], env=outer) as engine:
        os.close(write)
        with os.fdopen(read) as file:
            pid = json.load(file)["child-pid"]
        (home / f"{name}.json").write_text(json.dumps({"pid": pid, "env": env}))
        os.write(release, b"go")  # a container that speaks is one that is known
        code = engine.wait()
    (home / f"{name}.json").unlink(missing_ok=True)
    return code


def execute(home: Path, words: list[str]) -> None:
    options, rest = parse(words, {"--interactive"}, {"--workdir", "--env"})
    name, *argv = rest
    if not (home / f"{name}.json").exists():
        sys.exit(f"Error: No such container: {name}")
    container = json.loads((home / f"{name}.json").read_text())
    env = {**container["env"], **dict(pair.partition("=")[::2] for pair in options.get("--env", []))}
    (workdir,) = options.get("--workdir", ["/"])
    enter = ["nsenter", "--preserve-credentials", "-t", str(container["pid"]), "-U", "-m", "-p", "-n", "-i", "--"]
    os.execvpe("nsenter", [*enter, "/bin/sh", "-c", 'cd "$0" && exec "$@"', workdir, *argv], env)


def main() -> None:
    home = Path(sys.argv[0]).resolve().parent
    verb, *words = sys.argv[1:]
    with (home / "calls.log").open("a") as log:
        log.write(json.dumps(sys.argv[1:]) + "\n")
    if verb == "run":
        sys.exit(run(home, words))
    if verb == "exec":
        execute(home, words)
    if verb == "rm" and words[0] == "--force":
        state = home / f"{words[1]}.json"
        if state.exists():
            os.kill(json.loads(state.read_text())["pid"], signal.SIGKILL)
            state.unlink()
        sys.exit(0)
    sys.exit(f"unknown command: {sys.argv[1:]}")


if __name__ == "__main__":
    main()
