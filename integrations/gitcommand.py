"""One hardened way to run git on the bot's side: bare repositories only, nothing inherited, every option said.

GitPython's `Git.execute` copies the process's environment, so git is started through `env -i`: what git sees is exactly
what is written here. Hooks, filters, pagers, helpers and prompts are off. Arguments are a fixed argv, never a shell.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from graph.errors import Misconfigured, ThreadwrightError

SEARCH_PATH = "/usr/local/bin:/opt/homebrew/bin:/usr/bin:/bin"
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"

_ENVIRONMENT = {
    "HOME": "/nonexistent",
    "XDG_CONFIG_HOME": "/nonexistent",
    "LANG": "C",
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "/bin/false",
    "SSH_ASKPASS": "/bin/false",
    "GIT_SSH_COMMAND": "/bin/false",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_PAGER": "cat",
    "GIT_EDITOR": "/bin/false",
    "GIT_SEQUENCE_EDITOR": "/bin/false",
    "GIT_PROTOCOL_FROM_USER": "0",
    "GIT_DISCOVERY_ACROSS_FILESYSTEM": "0",
}

# `diff.external=` is not here on purpose: an empty value makes git run "". `--no-ext-diff` does it instead.
_OPTIONS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.untrackedCache=false",
    "core.symlinks=false",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "core.protectHFS=true",
    "core.protectNTFS=true",
    "core.pager=cat",
    "core.askPass=/bin/false",
    "core.sshCommand=/bin/false",
    "core.gitProxy=",
    "core.alternateRefsCommand=/bin/true",
    # A mirror is read by the sandbox's unprivileged user, whatever the umask of this process.
    "core.sharedRepository=0644",
    # Larger blobs are streamed, not inflated into memory: a small pack may hold gigabytes of zeros.
    "core.bigFileThreshold=8m",
    "core.filesRefLockTimeout=5000",
    "core.packedRefsTimeout=5000",
    # Newer git reads a bare repository's .gitattributes from HEAD: a tree must not hide its own text from the diff.
    f"attr.tree={EMPTY_TREE}",
    "credential.helper=",
    "credential.useHttpPath=true",
    "http.followRedirects=false",
    "http.sslVerify=true",
    "http.proxy=",
    "http.extraHeader=",
    "http.cookieFile=",
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=60",
    "protocol.allow=never",
    "safe.bareRepository=explicit",
    "transfer.fsckObjects=true",
    "transfer.credentialsInUrl=die",
    # Real old histories have these; strictness is for what comes out of the sandbox.
    "fetch.fsck.badTimezone=ignore",
    "fetch.fsck.zeroPaddedFilemode=ignore",
    "fetch.fsck.missingSpaceBeforeDate=ignore",
    "fetch.recurseSubmodules=no",
    "push.recurseSubmodules=no",
    "submodule.recurse=false",
    "diff.ignoreSubmodules=all",
    "status.submoduleSummary=false",
    "log.showSignature=false",
    "commit.gpgSign=false",
    "tag.gpgSign=false",
    "push.gpgSign=false",
    "gpg.program=/bin/false",
    "gc.auto=0",
    "maintenance.auto=false",
)


class GitRunError(ThreadwrightError):
    """git ended with an unexpected exit status. Translated by whoever ran it; it is never for a person."""

    def __init__(self, args: Sequence[str], status: int, error: str) -> None:
        super().__init__(f"git {args[0] if args else ''} ended with {status}: {error.strip()}")
        self.status = status
        self.error = error


@dataclass(frozen=True)
class GitResult:
    status: int
    out: bytes
    error: str

    @property
    def text(self) -> str:
        """Standard output without its last line end."""
        return self.out.decode("utf-8", "surrogateescape").rstrip("\n")


class GitCommand:
    """Runs git with `--git-dir` explicit. `search_path`: where git and its helpers are looked for."""

    def __init__(self, search_path: str = SEARCH_PATH) -> None:
        self._search_path = search_path

    def run(
        self,
        git_dir: Path | None,
        *args: str,
        scheme: str = "",
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
        ok: Collection[int] = (0,),
        timeout: float = 300.0,
        keep_fds: Sequence[int] = (),
    ) -> GitResult:
        """Run one git command; `timeout` in seconds.

        `scheme` is the one transport that this call may use; empty: none. `keep_fds` are inherited by git: a lock held
        by such a descriptor is held until git itself is gone, also when this process is killed first.
        Raises GitRunError when the exit status is not in `ok`, Misconfigured when there is no git.
        """
        command = ["env", "-i", *(f"{k}={v}" for k, v in self._environment(scheme, env).items()), "git"]
        if git_dir is not None:
            command.append(f"--git-dir={git_dir}")
        for option in _OPTIONS:
            command += ["-c", option]
        command += args
        status, out, error = self._execute(command, stdin, timeout, keep_fds)
        if status == 127 and error.startswith("env:"):
            raise Misconfigured("git is not installed. Install git 2.38 or newer.")
        if status not in ok:
            raise GitRunError(args, status, error)
        return GitResult(status, out, error)

    def _environment(self, scheme: str, extra: Mapping[str, str] | None) -> dict[str, str]:
        # GIT_ALLOW_PROTOCOL beats protocol.*.allow, and an empty one allows nothing.
        return {"PATH": self._search_path, **_ENVIRONMENT, "GIT_ALLOW_PROTOCOL": scheme, **(extra or {})}

    @staticmethod
    def _execute(
        command: list[str], stdin: bytes | None, timeout: float, keep_fds: Sequence[int]
    ) -> tuple[int, bytes, str]:
        import git  # noqa: PLC0415 - commands that only look at tasks name repositories, and run no git

        with tempfile.TemporaryFile() as source:
            if stdin is not None:
                source.write(stdin)
                source.seek(0)
            try:
                status, out, error = git.Git("/").execute(
                    command,
                    istream=source if stdin is not None else None,
                    with_extended_output=True,
                    with_exceptions=False,
                    stdout_as_string=False,
                    strip_newline_in_stdout=False,
                    kill_after_timeout=timeout,
                    pass_fds=tuple(keep_fds),
                )
            except git.GitCommandNotFound as exc:
                raise Misconfigured("The program `env` is not on the PATH.") from exc
        assert isinstance(out, bytes)  # noqa: S101 - what stdout_as_string=False means
        return int(status), out, str(error)


@contextmanager
def locked(path: Path) -> Iterator[int]:
    """Hold an exclusive lock on `path` between processes; gives the descriptor, to be handed to children."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)
