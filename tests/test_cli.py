"""The command line: exit codes, which task is meant, the conversation, and what it costs to import."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fakes_desk import Talk
from typer.main import get_command

from bot.__main__ import app
from bot.chat import Place, Receipt
from bot.cli import (
    FAILED,
    NOTHING,
    OK,
    QUESTION,
    BadUsage,
    Found,
    cli_help,
    doctor_text,
    exit_code,
    leaving_text,
    options,
    pick_task,
    places_of,
    read_order,
    repository,
    said,
)
from bot.commands import BY_WORD, VERBS, BadOption, help_text, verbs_markdown
from bot.invocation import called, naming
from bot.session import home_of, new_place, settled

ROOT = Path(__file__).parents[1]


# ---- exit codes

DRAFT = {"number": 1, "head": "abc", "draft": True, "state": "open"}
READY = {**DRAFT, "draft": False}
MERGED = {**READY, "state": "merged"}
CLOSED = {**DRAFT, "state": "closed"}
SEEN = [{"sha": "abc"}]


@pytest.mark.parametrize(
    ("data", "plain_code", "with_approve"),
    [
        ({"status": "running"}, None, None),
        ({"status": "paused"}, None, None),
        ({"status": "backing off"}, None, None),
        ({"status": "running", "pull_request": DRAFT}, None, None),
        ({"status": "running", "final": {"kind": "failed"}}, None, None),
        ({"status": "asking", "question": {"id": "q"}}, QUESTION, QUESTION),
        ({"status": "asking", "pull_request": DRAFT}, QUESTION, QUESTION),
        ({"status": "parked"}, QUESTION, QUESTION),
        ({"status": "watching", "pull_request": DRAFT}, OK, None),
        ({"status": "watching", "pull_request": READY}, OK, OK),
        ({"status": "watching", "pull_request": READY, "on_approval": "merge"}, OK, None),
        ({"status": "watching", "pull_request": DRAFT, "on_approval": "review"}, OK, None),
        ({"status": "watching", "pull_request": DRAFT, "on_approval": "review", "approvals": SEEN}, OK, OK),
        ({"status": "watching", "pull_request": MERGED, "on_approval": "merge"}, OK, OK),
        ({"status": "watching", "pull_request": CLOSED}, FAILED, FAILED),
        ({"status": "watching"}, None, None),
        ({"status": "done", "final": {"kind": "done"}, "pull_request": MERGED}, OK, OK),
        ({"status": "done", "final": {"kind": "answered"}}, OK, OK),
        ({"status": "done", "final": {"kind": "nothing to do"}}, NOTHING, NOTHING),
        ({"status": "failed", "final": {"kind": "needs you"}}, FAILED, FAILED),
        ({"status": "done", "final": {"kind": "needs you"}}, FAILED, FAILED),
        ({"status": "done", "final": {"kind": "failed"}}, FAILED, FAILED),
        ({"status": "failed", "final": {"kind": "failed"}}, FAILED, FAILED),
        ({"status": "failed"}, FAILED, FAILED),
        ({"status": "stopped", "final": {"kind": "stopped"}}, FAILED, FAILED),
        ({}, None, None),
    ],
)
def test_exit_codes(data: dict[str, Any], plain_code: int | None, with_approve: int | None) -> None:
    assert exit_code(data, approve=False) == plain_code
    assert exit_code(data, approve=True) == with_approve


# ---- which task is meant


def test_a_task_may_be_left_out_when_exactly_one_is_open() -> None:
    talk = Talk()
    with pytest.raises(BadUsage, match="no open task"):
        pick_task(talk.desk, "", "cancel")
    talk.session.line("one")
    first = talk.task
    assert pick_task(talk.desk, "", "cancel").id == first
    assert pick_task(talk.desk, first.upper()).id == first
    talk.session.place = new_place()
    talk.session.task = ""
    talk.session.line("two")
    with pytest.raises(BadUsage, match="Which task"):
        pick_task(talk.desk, "", "cancel")
    talk.desk.end(first, "failed", "failed")
    assert pick_task(talk.desk, "", "cancel").id == talk.task
    assert pick_task(talk.desk, "", "retry").id == first
    talk.desk.end(talk.task, "done")
    assert pick_task(talk.desk, "", "logs").id == talk.task
    for unknown in ("tw-zzzzz", "nonsense"):
        with pytest.raises(BadUsage, match="I know no task"):
            pick_task(talk.desk, unknown)


def test_a_task_is_talked_about_in_its_terminal_else_where_it_began() -> None:
    talk = Talk()
    talk.session.line("one")
    view = talk.session.view()
    assert view is not None
    assert home_of(view) == talk.session.place
    slack, here = Place("slack", "T1", "C1", "1.2"), Place("console", "c-1", "terminal", "c-1")
    view.data["places"] = [slack.key, here.key]
    assert places_of(view.data) == (slack, here)
    assert home_of(view) == here
    view.data["places"] = [slack.key]
    assert home_of(view) == slack


def test_leaving_says_how_to_come_back() -> None:
    talk = Talk()
    assert leaving_text(talk.session.view(), workers=True) == ""
    talk.session.line("one")
    assert "goes on" in leaving_text(talk.session.view(), workers=True)
    assert "`threadwright up`" in leaving_text(talk.session.view(), workers=False)
    assert f"`threadwright chat --task {talk.task}`" in leaving_text(talk.session.view(), workers=False)
    assert not settled(talk.session.view())
    talk.desk.end(talk.task, "done")
    assert settled(talk.session.view())
    assert leaving_text(talk.session.view(), workers=True) == ""


def test_verbs_of_the_command_line_are_checked() -> None:
    assert read_order(BY_WORD["status"], ["TW-ABCD2"]).text("tw-abcd2") == "status tw-abcd2"
    assert read_order(BY_WORD["move"], ["acme/api", "tw-abcd2"]).text("tw-abcd2") == "move acme/api tw-abcd2"
    assert read_order(BY_WORD["mute"], ["tw-abcd2"]).text("tw-abcd2") == "mute"
    assert read_order(BY_WORD["repo"], [str(ROOT / "bot")]).text("") == f"repo {ROOT / 'bot'}"
    for verb, words in (("status", ["now"]), ("move", []), ("move", ["nowhere"]), ("list", ["yours"])):
        with pytest.raises(BadUsage, match=f"threadwright {verb}"):
            read_order(BY_WORD[verb], words)


def test_options_of_the_command_line_are_those_of_a_message(tmp_path: Path) -> None:
    assert options(str(tmp_path), "", "", "ask", "2", "20m") == {
        "repo": str(tmp_path), "plan": "ask", "budget": "2", "time": "20m",
    }  # fmt: skip
    with pytest.raises(BadOption, match="budget"):
        options("", "", "", "", "nothing", "")


def test_a_path_becomes_absolute_and_a_name_stays() -> None:
    assert repository("acme/api") == "acme/api"
    assert repository("https://example.org/acme/api") == "https://example.org/acme/api"
    assert repository("./x") == str(Path.cwd() / "x")
    assert repository("~/x") == str(Path.home() / "x")
    assert repository("") == ""


def test_doctor_says_what_to_do() -> None:
    parts = [
        Found("redis", True, "9.1"),
        Found("sandbox", False, "no bwrap", "Install it."),
        Found("slack", False, "no token", needed=False),
    ]
    lines = doctor_text(parts).splitlines()
    assert lines == [
        "ok     redis: 9.1",
        "FAILS  sandbox: no bwrap",
        "       Install it.",
        "off    slack: no token",
    ]


# ---- hints that can be typed


@pytest.mark.parametrize(
    ("argument", "folder", "on_path", "typed"),
    [
        ("/usr/local/bin/threadwright", "/srv/code", True, "threadwright"),
        ("/srv/code/.venv/bin/threadwright", "/srv/code", False, ".venv/bin/threadwright"),
        (".venv/bin/threadwright", "/srv/code", False, ".venv/bin/threadwright"),
        ("../code/.venv/bin/threadwright", "/srv/other", False, "../code/.venv/bin/threadwright"),
        ("/srv/my code/bin/threadwright", "/srv/my code/bin", False, "./threadwright"),
        ("/srv/my code/bin/threadwright", "/", False, "'/srv/my code/bin/threadwright'"),
        ("/srv/code/bot/__main__.py", "/srv/code", False, ".venv/bin/python -m bot"),
        ("/srv/code/bot/__main__.py", "/tmp", False, "/srv/code/.venv/bin/python -m bot"),
        ("/srv/code/bot/__main__.py", "/srv/code", True, "threadwright"),
    ],
)
def test_the_program_is_named_as_it_can_be_called_from_here(
    argument: str, folder: str, on_path: bool, typed: str
) -> None:
    assert called(argument, "/srv/code/.venv/bin/python", Path(folder), on_path=on_path) == typed


def test_commands_in_our_sentences_are_named_so_and_other_words_stay() -> None:
    words = 'Usage: threadwright plan\n`threadwright up` starts them:\n  threadwright answer tw-k3f9m "…"\n'
    assert naming(f"{words}threadwright is I", "x -m bot").splitlines() == [
        "Usage: x -m bot plan",
        "`x -m bot up` starts them:",
        '  x -m bot answer tw-k3f9m "…"',
        "threadwright is I",
    ]


# ---- one table for help, command line and README

COMMANDS = {"answer", "chat", "run", "up", "worker", "doctor", "manifest", "demo", "down", "check"}


def commands() -> dict[str, Any]:
    return dict(get_command(app).commands)  # type: ignore[attr-defined]


def test_the_command_line_has_the_verbs_of_the_table_and_no_others() -> None:
    assert set(commands()) == set(BY_WORD) | COMMANDS
    for verb in VERBS:
        assert commands()[verb.name].help == f"{verb.help[0].upper()}{verb.help[1:]}."
    assert {name for name, command in commands().items() if command.hidden} == {"stop", "worker"}


def test_help_in_the_terminal_begins_with_help_in_chat() -> None:
    assert cli_help().startswith(help_text())


def readme_table(readme: str) -> str:
    return readme.split("<!-- verbs -->")[1].strip() if readme.count("<!-- verbs -->") == 2 else ""


def test_the_readme_has_the_table_of_verbs() -> None:
    assert readme_table((ROOT / "README.md").read_text()) == verbs_markdown()


def test_the_check_of_the_readme_would_see_a_missing_verb() -> None:
    table = f"<!-- verbs -->\n{verbs_markdown()}\n<!-- verbs -->"
    assert readme_table(table) == verbs_markdown()
    assert readme_table(re.sub(r".*`mute`.*\n", "", table)) != verbs_markdown()


# ---- light

HEAVY = {
    "langgraph",
    "langchain",
    "langchain_core",
    "langchain_openai",
    "openai",
    "discord",
    "slack_bolt",
    "github",
    "git",
}


def imported(command: list[str], env: dict[str, str]) -> tuple[set[str], subprocess.CompletedProcess[str]]:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *command],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=env,
        timeout=60,
        check=False,
    )
    names = re.findall(r"^import time:.*\| +(\S+)$", done.stderr, re.MULTILINE)
    return {name.partition(".")[0] for name in names}, done


@pytest.mark.parametrize("command", ["help", "status", "list"])
def test_light_commands_import_nothing_heavy(command: str, redis: object, redis_url: str, tmp_path: Path) -> None:
    env = {"REDIS_URL": redis_url, "THREADWRIGHT_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    names, done = imported(["-m", "bot", command], env)
    assert done.returncode == (2 if command == "status" else 0)
    assert "Traceback" not in done.stderr
    assert "bot" in names
    assert names & HEAVY == set()


def test_the_check_for_heavy_imports_would_see_one() -> None:
    names, _ = imported(["-c", "import langchain_core"], {})
    assert names & HEAVY


def threadwright(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bot", *args], capture_output=True, text=True, cwd=ROOT, env=env, timeout=60, check=False
    )


@pytest.mark.parametrize(
    "args",
    [("run", "--repo", "x/y", "--budget", "no", "do it"), ("run", "stop"), ("run", " "), ("answer", "tw-zzzzz", "yes"),
     ("move", "nowhere"), ("status", "tw-zzzzz"), ("run",), ("nonsense",)],
)  # fmt: skip
def test_bad_usage_is_told_in_words_and_exits_with_2(
    args: tuple[str, ...], redis: object, redis_url: str, tmp_path: Path
) -> None:
    done = threadwright(*args, REDIS_URL=redis_url, THREADWRIGHT_HOME=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.strip()
    assert "Traceback" not in done.stderr
    assert not done.stdout


def test_a_hint_can_be_typed_when_the_program_is_on_no_path(redis: object, redis_url: str, tmp_path: Path) -> None:
    env = {"REDIS_URL": redis_url, "THREADWRIGHT_HOME": str(tmp_path)}
    interpreter = os.path.relpath(sys.executable, ROOT) if sys.executable.startswith(f"{ROOT}/") else sys.executable
    assert f"`{interpreter} -m bot list`" in threadwright("status", "tw-zzzzz", PATH="/nowhere", **env).stderr
    program = tmp_path / "bin" / "threadwright"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert "`threadwright list`" in threadwright("status", "tw-zzzzz", PATH=str(program.parent), **env).stderr


def test_wrong_settings_are_named_and_exit_with_2(tmp_path: Path) -> None:
    done = threadwright("list", THREADWRIGHT_HOME=str(tmp_path), TIMEZONE="Nowhere", BUDGET_USD="-1")
    assert done.returncode == 2
    assert "TIMEZONE" in done.stderr
    assert "BUDGET_USD" in done.stderr
    assert "Traceback" not in done.stderr


def test_json_is_one_object_on_stdout_also_when_it_fails(redis: object, redis_url: str, tmp_path: Path) -> None:
    env = {"REDIS_URL": redis_url, "THREADWRIGHT_HOME": str(tmp_path)}
    done = threadwright("run", "--json", "stop", **env)
    assert json.loads(done.stdout)["exit"] == done.returncode == 2
    done = threadwright("list", "--json", **env)
    assert json.loads(done.stdout) == {"tasks": []}


def test_a_verbs_answer_for_machines_has_its_text_and_file() -> None:
    answer = said("diff", "tw-abcd2", Receipt(reply="Changes:", file=("x.diff", "+a")))
    assert answer == {"verb": "diff", "task": "tw-abcd2", "text": "Changes:", "file": "x.diff", "content": "+a"}
