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
        # Python takes a compiled file for fresh when second and size of its source fit: an edit in the second of the
        # last run would be tested as the code was before.
        "PYTHONDONTWRITEBYTECODE": "1",
        "PAGER": "cat",
        "GIT_PAGER": "cat",
        "GIT_EDITOR": "true",
        "GIT_TERMINAL_PROMPT": "0",
        "NO_COLOR": "1",
    }


PROGRAMS = ("venv/bin", "tools/bin", "node/bin")
"""Folders of `deps` that go before the box's own PATH."""


def installed_environment(path: str, deps: str, root: str, *, staging: bool) -> dict[str, str]:
    """What tools have to be told where things are installed that a set-up phase installed, or is about to.

    Afterwards nothing may want to bring them up to date: `deps` is read-only then, and there is no network.
    """
    cache = f"{deps}/.cache" if staging else f"{root}/cache"
    found = {
        "PATH": ":".join([*(f"{deps}/{folder}" for folder in PROGRAMS), path]),
        "THREADWRIGHT_DEPS": deps,
        "VIRTUAL_ENV": f"{deps}/venv",
        "UV_PROJECT_ENVIRONMENT": f"{deps}/venv",
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_CACHE_DIR": f"{cache}/uv",
        "POETRY_VIRTUALENVS_CREATE": "false",
        "GOMODCACHE": f"{deps}/go/mod",
        "GOCACHE": f"{cache}/go",
        "GOTOOLCHAIN": "local",
        "CARGO_HOME": f"{deps}/cargo",
        "CARGO_TARGET_DIR": f"{root}/cache/target",
        "YARN_NODE_LINKER": "node-modules",
        "YARN_ENABLE_TELEMETRY": "0",
        "DO_NOT_TRACK": "1",
    }
    if staging:
        return found | {
            # /tmp is small.
            "TMPDIR": f"{cache}/tmp",  # noqa: S108
            "PIP_CACHE_DIR": f"{cache}/pip",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_INPUT": "1",
            # What is not compiled now is compiled at each import later, for nothing can be written then.
            "UV_COMPILE_BYTECODE": "1",
            # Else the janitor could not remove it without opening every folder first.
            "GOFLAGS": "-modcacherw",
            "POETRY_CACHE_DIR": f"{cache}/poetry",
            "NPM_CONFIG_CACHE": f"{cache}/npm",
            "NPM_CONFIG_AUDIT": "false",
            "NPM_CONFIG_FUND": "false",
            "NPM_CONFIG_UPDATE_NOTIFIER": "false",
            "NPM_CONFIG_STORE_DIR": f"{cache}/pnpm",
            "YARN_CACHE_FOLDER": f"{cache}/yarn",
            "YARN_GLOBAL_FOLDER": f"{cache}/yarn-berry",
        }
    return found | {
        "UV_OFFLINE": "1",
        "UV_NO_SYNC": "1",
        "GOPROXY": "off",
        "CARGO_NET_OFFLINE": "true",
        "PIP_NO_INDEX": "1",
        "NPM_CONFIG_OFFLINE": "true",
    }


def door_environment(port: int, door: str, *, local_index: bool) -> dict[str, str]:
    """The one way out of a set-up phase, and the certificate of the proxy that looks at what passes.

    `local_index`: `localhost` is an index on the operator's own machine, and not the box itself.
    """
    proxy, certificate = f"http://127.0.0.1:{port}", f"{door}/ca.pem"
    names = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY")
    files = (
        "SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "NPM_CONFIG_CAFILE",
        "CARGO_HTTP_CAINFO", "GIT_SSL_CAINFO", "YARN_HTTPS_CA_FILE_PATH",
    )  # fmt: skip
    own = "127.0.0.1,::1" if local_index else "localhost,127.0.0.1,::1"
    return (
        dict.fromkeys(names, proxy) | dict.fromkeys(files, certificate) | dict.fromkeys(("NO_PROXY", "no_proxy"), own)
    )
