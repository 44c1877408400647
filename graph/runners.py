"""Which test runner a shell command line starts. Pure; says nothing when it is not sure."""

from __future__ import annotations

import re
import shlex

from graph.values import Runner

_WRAPPERS = frozenset({"uv", "poetry", "pipenv", "pdm", "hatch", "rye"})
_PACKAGERS = frozenset({"npm", "pnpm", "yarn"})
_BEFORE = frozenset({"env", "cross-env", "npx", "c8", "command", "exec", "xvfb-run"})
_VALUED = frozenset({
    "--extra", "--group", "--only-group", "--with", "--python", "-p", "--package", "--project", "--directory", "-C",
    "--env-file", "--import", "--require", "-r", "--loader", "-W", "-X",
})  # fmt: skip
_ELSEWHERE = re.compile(
    r"(?:^|\s)(?:-w|-ws|-r|--workspaces?|--recursive|--filter|-F|--prefix|--cwd|-C|--dir)(?:=|\s|$)"
)
_BY_NAME: dict[str, Runner] = {"pytest": "pytest", "py.test": "pytest", "vitest": "vitest", "jest": "jest"}


def plain(line: str) -> bool:
    """One command, without pipes, redirections, comments or anything else that a shell would work out."""
    bare = re.sub(r"""'[^'\n]*'|"[^"$`\\\n]*\"""", "_", line)
    return not re.search(r"[;&|<>()`$#\n\r]", bare) and _split(line) != []


def runner_of(command_line: str, script: str = "") -> Runner:
    """The runner that the line starts; `script` is what package.json says of the script that it names."""
    parts = _unwrapped(_split(command_line)) if plain(command_line) else []
    if not parts or parts[0] not in _PACKAGERS:
        return _named(parts)
    if _elsewhere(command_line):
        return ""
    if package_script(command_line) is not None:
        found = runner_of(script) if not _packaged(script) else ""
    else:
        inside = parts[2:] if parts[1:2] in (["exec"], ["dlx"]) else parts[1:]
        found = _named(_options_off([part for part in inside if part != "--"]))
    return found if found in ("vitest", "jest", "node") else ""


def package_script(line: str) -> str | None:
    """Name of the script of package.json that the line runs; None if it runs none, or that of another package."""
    parts = _unwrapped(_split(line))
    if not parts or parts[0] not in _PACKAGERS or _elsewhere(line):
        return None
    rest = _options_off(parts[1:])
    if rest[:1] in (["run"], ["run-script"]):
        rest = _options_off(rest[1:])
        return rest[0] if rest else None
    return "test" if rest[:1] in (["test"], ["t"]) else None


def _elsewhere(line: str) -> bool:
    return _ELSEWHERE.search(line.partition(" -- ")[0]) is not None


def _packaged(script: str) -> bool:
    return _unwrapped(_split(script))[:1] in ([name] for name in _PACKAGERS)


def _split(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:
        return []


def _options_off(parts: list[str]) -> list[str]:
    at = 0
    while at < len(parts) and parts[at].startswith("-"):
        at += 2 if parts[at] in _VALUED else 1
    return parts[at:]


def _unwrapped(parts: list[str]) -> list[str]:
    """Without variables, and without programs that only start another."""
    while parts:
        head = parts[0].rpartition("/")[2]
        if re.match(r"[A-Za-z_]\w*=", parts[0]):
            parts = parts[1:]
        elif head in _BEFORE:
            parts = _options_off(parts[1:])
        elif head in _WRAPPERS and parts[1:2] == ["run"]:
            parts = _options_off(parts[2:])
        elif head == "coverage" and parts[1:2] == ["run"] and "-m" in parts:
            parts = ["python", *parts[parts.index("-m") :]]
        elif re.fullmatch(r"python[\d.]*", head) and parts[1:4] == ["-m", "coverage", "run"]:
            parts = parts[2:]
        elif head == "timeout" and len(parts) > 2:
            parts = _options_off(parts[1:])[1:]
        else:
            break
    return parts


def _named(parts: list[str]) -> Runner:
    if not parts:
        return ""
    head, rest = parts[0].rpartition("/")[2], parts[1:]
    if head in _BY_NAME:
        return _BY_NAME[head]
    if re.fullmatch(r"python[\d.]*", head):
        return _python(rest)
    if head in ("node", "tsx"):
        return _node(rest)
    if head == "go":
        return "go" if rest[:1] == ["test"] else ""
    if head == "cargo":
        rest = [part for part in rest if not part.startswith(("+", "-"))]
        return "cargo" if rest[:1] in (["test"], ["t"]) else ""
    return ""


def _python(rest: list[str]) -> Runner:
    rest = rest[: rest.index("-m") + 2] if "-m" in rest else rest
    if _options_off([part for part in rest[:-1] if part != "-m"]) or len(rest) < 2 or rest[-2] != "-m":
        return ""
    return "pytest" if rest[-1] in ("pytest", "py.test") else "unittest" if rest[-1] == "unittest" else ""


def _node(rest: list[str]) -> Runner:
    """Node with reporters of its own is left alone: their number must fit that of their destinations."""
    if any(part.startswith("--test-reporter") for part in rest):
        return ""
    main = _options_off(rest)[:1]
    options = rest[: len(rest) - len(_options_off(rest))]
    if "--test" in options:
        return "node"
    return "jest" if main and re.search(r"(?:^|/)(?:jest/bin/jest(?:\.js)?|\.bin/jest)$", main[0]) else ""
