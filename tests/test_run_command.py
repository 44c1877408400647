"""The command line end to end: `run` and the verbs as processes of their own, over a home where all is real."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from gitrepos import clone, git
from greetings import LOUD, TESTED, TITLE, louder, until
from rooms import House, Room, by_role, call, done, plan, write

from integrations import redisserver
from integrations.scriptedmodel import Refuse, Reply, ScriptedModelServer
from jobs.queue import living_workers
from jobs.settings import environment

ROOT = Path(__file__).parents[1]
COMMAND = (sys.executable, "-m", "bot")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A home with a worker of its own, as after `threadwright up`."""
    root = tmp_path_factory.mktemp("home")
    for folder in (root, root.parent, root.parent.parent):
        folder.chmod(0o755)
    house = House(root)
    yield house
    house.close()


@pytest.fixture
def bare_home(tmp_path: Path) -> Iterator[Path]:
    """A home in which nothing runs."""
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    yield tmp_path / "data"
    redisserver.stop(tmp_path / "data")


def threadwright(
    house: House, *words: str, env: Mapping[str, str] | None = None, seconds: float = 60
) -> subprocess.CompletedProcess[str]:
    """One command, from an unrelated folder."""
    given = {**os.environ, **environment(house.settings), "PYTHONPATH": str(ROOT), "COLUMNS": "200", **(env or {})}
    return subprocess.run(
        [*COMMAND, *words], env=given, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=seconds, check=False,
    )  # fmt: skip


def run(room: Room, *options: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """`threadwright run` on the room's repository, by its path."""
    words = f"greet louder ({room.marker})"
    return threadwright(room.house, "run", "--repo", str(room.bare), *options, words, env=env)


def one_object(done_: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The one JSON object on standard output."""
    found: dict[str, Any] = json.loads(done_.stdout)
    assert isinstance(found, dict)
    return found


def ask() -> Reply:
    asked = {"question": "Loud or soft?", "suggestions": ["soft", "loud"], "assumption": "loud"}
    return call("ask_person", questions=[asked])


def asking(home: House) -> Room:
    return home.room(TESTED, by_role([ask(), plan(TITLE), write("greet.py", LOUD), done()]))


# ---- run


def test_run_ends_with_0_when_the_pull_request_is_open_and_the_verbs_know_the_task(home: House) -> None:
    room = home.room(TESTED, louder())
    ran = run(room, "--json")
    assert ran.returncode == 0, ran.stderr
    said = one_object(ran)
    task = room.task = said["task"]
    assert said["exit"] == 0
    assert said["pull_request"]["draft"]
    assert room.commits() == [TITLE]
    assert "green" in ran.stderr

    status = one_object(threadwright(home, "status", task, "--json"))
    assert (status["id"], status["status"]) == (task, "watching")
    assert task in threadwright(home, "status", task).stdout
    assert task in [view["id"] for view in one_object(threadwright(home, "list", "--json"))["tasks"]]
    assert "hello there" in threadwright(home, "diff", task).stdout
    logs = one_object(threadwright(home, "logs", task, "--json"))
    assert "pull request" in logs["text"] + logs["content"]
    assert "5 of 200 model calls" in threadwright(home, "cost", task).stdout
    assert threadwright(home, "approve", task).returncode == 0
    until(lambda: not room.view.data["pull_request"]["draft"], "ready")


def test_run_stops_at_a_question_with_3_and_prints_the_command_that_answers_it(home: House) -> None:
    room = asking(home)
    ran = run(room)
    assert ran.returncode == 3
    found = re.search(r'(?:threadwright|-m bot) answer (tw-\w+) "', ran.stdout)
    assert found
    assert "Loud or soft?" in ran.stdout
    room.task = found[1]
    answered = threadwright(home, "answer", room.task, "2")
    assert answered.returncode == 0, answered.stderr
    assert room.commits() == [TITLE]
    assert "loud" in str(home.server.requests[-1].messages) or room.view.status == "watching"
    again = threadwright(home, "answer", room.task, "2")
    assert again.returncode == 2
    assert "no open question" in again.stderr


def test_run_gives_the_answers_it_was_given_and_with_approve_waits_for_what_that_promises(home: House) -> None:
    room = asking(home)
    ran = run(room, "--answer", "loud", "--approve", "--json")
    assert ran.returncode == 0, ran.stderr
    said = one_object(ran)
    assert not said["pull_request"]["draft"]
    assert [approval["sha"] for approval in said["approvals"]] == [said["pull_request"]["head"]]


def test_run_ends_with_4_when_there_was_nothing_to_change(home: House) -> None:
    ran = run(home.room(TESTED, by_role([plan(TITLE), done()])), "--json")
    assert ran.returncode == 4
    assert one_object(ran)["final"]["kind"] == "nothing to do"


def test_run_ends_with_1_when_the_task_fails(home: House) -> None:
    ran = run(home.room(TESTED, lambda _: Refuse(400, "no such thing")), "--json")
    assert ran.returncode == 1
    said = one_object(ran)
    assert said["status"] == "failed"
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_a_path_that_does_not_exist_starts_nothing(home: House, as_json: tuple[str, ...]) -> None:
    ran = threadwright(home, "run", "--repo", "/nowhere/at/all", *as_json, "greet louder")
    assert ran.returncode in (1, 2)
    assert "`/nowhere/at/all` does not exist" in ran.stderr + ran.stdout
    if as_json:
        assert one_object(ran)["exit"] == ran.returncode


@pytest.mark.parametrize(
    "words",
    [
        ("run",),
        ("run", "--repo", "/tmp", ""),
        ("run", "--repo", "/tmp", "status"),
        ("run", "--repo", "/tmp", "--budget", "much", "greet louder"),
        ("run", "--no-such-option", "greet louder"),
        ("answer", "tw-22222", "yes"),
        ("status", "tw-22222"),
        ("nonsense",),
    ],
)
def test_bad_usage_ends_with_2(home: House, words: tuple[str, ...]) -> None:
    ran = threadwright(home, *words)
    assert ran.returncode == 2, ran.stdout + ran.stderr
    assert ran.stdout == ""
    assert "Traceback" not in ran.stderr


def test_cancel_and_retry_from_the_command_line(home: House) -> None:
    room = asking(home)
    room.task = one_object(run(room, "--json"))["task"]
    assert threadwright(home, "cancel", room.task).returncode == 0
    room.until("stopped")
    assert one_object(threadwright(home, "retry", room.task, "--json"))["verb"] == "retry"
    room.until("asking")
    assert threadwright(home, "answer", room.task, "loud").returncode == 0
    assert room.commits() == [TITLE]


def test_a_checked_out_branch_is_not_merged_under_the_persons_hands(home: House, tmp_path: Path) -> None:
    room = home.room(TESTED, louder())
    checkout = clone(room.bare, tmp_path / "mine")
    git(checkout, "checkout", "--quiet", "-B", "main")
    (checkout / "greet.py").write_text("# not committed\n")
    policy = {"ON_APPROVAL": "merge", "SECOND_PERSON": "false"}
    words = f"greet louder ({room.marker})"
    ran = threadwright(home, "run", "--repo", str(checkout), "--approve", words, env=policy)
    assert "#1" in ran.stdout
    assert f"git -C {checkout} merge --no-ff" in ran.stdout
    assert ran.returncode == 1
    assert git(checkout, "log", "--format=%s", "main") == "first"
    assert (checkout / "greet.py").read_text() == "# not committed\n"
    assert git(checkout, "status", "--porcelain").split() == ["M", "greet.py"]


# ---- where nothing runs yet


def test_run_brings_its_own_worker_and_without_a_key_says_so(bare_home: Path, home: House) -> None:
    room = home.room(TESTED, louder())
    with ScriptedModelServer(louder()) as server:
        env = {"THREADWRIGHT_HOME": str(bare_home), "OPENAI_BASE_URL": server.url}
        ran = run(room, "--json", env=env)
        assert ran.returncode == 0, ran.stderr
        assert "openai" not in ran.stderr.lower()
        keyless = run(room, env={**env, "OPENAI_API_KEY": ""})
    assert keyless.returncode == 1
    assert "OPENAI_API_KEY" in keyless.stdout + keyless.stderr
    assert "Traceback" not in keyless.stdout + keyless.stderr
    with redisserver.connect(redisserver.ensure(bare_home).url) as client:
        assert living_workers(client) == 0


def test_run_takes_over_when_the_worker_it_leant_on_is_gone(bare_home: Path, home: House) -> None:
    room = home.room(TESTED, louder())
    bare_home.mkdir()
    with redisserver.connect(redisserver.ensure(bare_home).url) as client, ScriptedModelServer(louder()) as server:
        # What a killed worker leaves behind, for a while.
        client.set("tw:worker:killed", "1", ex=5)
        ran = run(room, "--json", env={"THREADWRIGHT_HOME": str(bare_home), "OPENAI_BASE_URL": server.url})
        assert ran.returncode == 0, ran.stderr
        assert (bare_home / "worker.log").exists()
        assert living_workers(client) == 0, "what the command started went with it"


def test_a_verb_that_waits_for_a_worker_says_so_and_one_that_changed_nothing_does_not(
    bare_home: Path, home: House
) -> None:
    room = asking(home)
    with ScriptedModelServer(by_role([ask(), plan(TITLE), write("greet.py", LOUD), done()])) as server:
        env = {"THREADWRIGHT_HOME": str(bare_home), "OPENAI_BASE_URL": server.url}
        task = one_object(run(room, "--json", env=env))["task"]
    nothing = threadwright(home, "approve", task, env=env)
    assert (nothing.returncode, nothing.stderr) == (0, "")
    finish = threadwright(home, "finish", task, env=env)
    assert finish.returncode == 0
    assert "It is stored, and happens once a worker runs" in finish.stderr
    assert re.search(r"`\S*(threadwright|python\S* -m bot) up` starts them", finish.stderr)


def test_up_says_what_runs_and_stops_cleanly_on_sigterm(bare_home: Path, home: House) -> None:
    env = {**os.environ, **environment(home.settings), "THREADWRIGHT_HOME": str(bare_home), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [*COMMAND, "up", "--workers", "1"], env=env, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as up:
        assert up.stdout is not None
        assert "1 worker and the sweeper run" in up.stdout.readline()
        house = {"THREADWRIGHT_HOME": str(bare_home)}

        def workers() -> str:
            parts = one_object(threadwright(home, "doctor", "--json", env=house))["parts"]
            return str(next(part["detail"] for part in parts if part["name"] == "Workers"))

        until(lambda: workers() == "1 alive", "a worker alive", 30)
        up.send_signal(signal.SIGTERM)
        out, err = up.communicate(timeout=20)
    assert up.returncode == 0, err
    assert "Stopping" in out
    assert workers() == "0 alive"
    assert err == ""


def test_down_stops_our_own_redis_and_the_next_command_finds_everything(bare_home: Path, home: House) -> None:
    env = {"THREADWRIGHT_HOME": str(bare_home), "OPENAI_API_KEY": ""}
    assert threadwright(home, "list", env=env).returncode == 0
    assert redisserver.running(bare_home) is not None
    down = threadwright(home, "down", env=env)
    assert (down.returncode, down.stdout.strip()) == (0, "Redis is stopped.")
    assert redisserver.running(bare_home) is None
    assert threadwright(home, "list", env=env).returncode == 0


def test_doctor_says_for_each_part_whether_it_works(home: House) -> None:
    looked = threadwright(home, "doctor")
    assert looked.returncode == 0, looked.stdout
    said = one_object(threadwright(home, "doctor", "--json"))
    # What of the operator's own package configuration cannot be used is this machine's affair.
    names = [part["name"] for part in said["parts"] if part["name"] != "Package index"]
    assert names == ["Python", "git", "Redis", "Workers", "Sandbox", "Set-up", "Model", "Repositories", "Slack"]
    assert all(name in looked.stdout for name in names)
    broken = threadwright(home, "doctor", "--json", env={"OPENAI_API_KEY": "", "PATH": "/nowhere"})
    assert broken.returncode == 1
    failing = {
        part["name"]: part["remedy"] for part in one_object(broken)["parts"] if not part["ok"] and part["needed"]
    }
    assert failing.keys() == {"Model"}
    assert all(failing.values())


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"MODEL_PRICES": "{bad"}, "MODEL_PRICES"),
        ({"THREADWRIGHT_HOME": "/proc/nowhere"}, "THREADWRIGHT_HOME"),
        ({"OPENAI_BASE_URL": "nonsense"}, "OPENAI_BASE_URL"),
        ({"WORKERS": "1000"}, "WORKERS"),
        ({"REDIS_URL": "redis://user:pa/ss@nowhere"}, "REDIS_URL is not a Redis URL"),
        ({"SANDBOX": "docker"}, "SANDBOX_IMAGE"),
        ({"SANDBOX": "process"}, "I_UNDERSTAND_THERE_IS_NO_SANDBOX"),
    ],
)
def test_a_wrong_setting_is_named_and_nothing_hangs(
    bare_home: Path, home: House, env: dict[str, str], words: str
) -> None:
    done = run(home.room({"a": "b"}), env={"THREADWRIGHT_HOME": str(bare_home), **env})
    assert done.returncode in (1, 2)
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert "pa/ss" not in done.stderr


def test_up_refuses_to_start_what_cannot_work(home: House) -> None:
    done = threadwright(home, "up", "--workers", "1", env={"SANDBOX": "docker"})
    assert done.returncode == 1
    assert "run" not in done.stdout
    assert "SANDBOX_IMAGE" in done.stderr


def test_doctor_shows_no_password(home: House) -> None:
    done = threadwright(home, "doctor", env={"OPENAI_BASE_URL": "http://ann:hunter22@127.0.0.1:1/v1"})
    assert "127.0.0.1:1" in done.stdout
    assert "hunter22" not in done.stdout + done.stderr
