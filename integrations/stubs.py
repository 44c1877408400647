"""What a box has of /etc and of the environment: built from nothing, never copied from the operator's."""

from __future__ import annotations

from collections.abc import Mapping

GITCONFIG = """\
[safe]
\tdirectory = *
[user]
\tname = Sandbox
\temail = sandbox@localhost
[init]
\tdefaultBranch = main
[core]
\texcludesFile = {ignore}
\tfsmonitor = false
[protocol "file"]
\tallow = always
[uploadpack]
\tallowAnySHA1InWant = true
[advice]
\tdetachedHead = false
[gc]
\tauto = 0
[maintenance]
\tauto = false
"""
# What runs and installs leave behind, in repositories whose own .gitignore forgot it; tracked files stay tracked.
IGNORE = """\
__pycache__/
*.py[co]
.pytest_cache/
.mypy_cache/
.ruff_cache/
.tox/
.venv/
node_modules/
"""
# Without hosts, `localhost` does not resolve and servers in tests fail.
ETC: Mapping[str, str] = {
    "hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
    "passwd": "root:x:0:0::/:/bin/false\nsandbox:x:1000:1000::/tmp/home:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
    "group": "root:x:0:\nsandbox:x:1000:\nnogroup:x:65534:\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "resolv.conf": "",
    "gitconfig": GITCONFIG.format(ignore="/etc/gitignore"),
    "gitignore": IGNORE,
}


def environment(path: str, home: str) -> dict[str, str]:
    """All variables that a command in a box sees."""
    return {
        "PATH": path,
        "HOME": home,
        "USER": "sandbox",
        "LOGNAME": "sandbox",
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "TERM": "dumb",
        "CI": "1",
        "PAGER": "cat",
        "GIT_PAGER": "cat",
        "GIT_EDITOR": "true",
        "GIT_TERMINAL_PROMPT": "0",
        "NO_COLOR": "1",
    }
