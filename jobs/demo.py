"""`make demo`: one whole conversation in the terminal, from a mention to a merge commit.

The model is a scripted server on loopback unless OPENAI_API_KEY is set, and says so first. All else is what a team
would run: Redis, RQ workers, LangGraph, git, the sandbox, the repository's tests, the model's client, the outbox.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from bot.chat import Card, JournalEntry, Place, TaskView
from bot.chat import Reply as Said
from bot.console import ConsoleChat
from bot.session import Session, me, new_place
from bot.text import neutralise
from graph.errors import ThreadwrightError
from integrations.scriptedmodel import Reply, Request, Script, ScriptedModelServer
from jobs import demoscript, picture
from jobs.settings import Settings, load
from jobs.wiring import Office, Workers, open_office, sandbox_of, workspaces_of

PATIENCE = 110.0
"""Seconds the whole conversation may take with the scripted model."""
REAL_PATIENCE = 1_800.0
THINKING = 0.7
"""Seconds the scripted model takes for an answer, so that a reader can follow."""
RED_STYLE = "red"
INDENT = 6
AFTERWARDS = "What is in the bare repository now:"
"""Below this is no conversation any more, and a picture ends."""


def main(svg: str = "") -> int:
    """Play it; the exit code: 0 merged and green, 1 anything else.

    `svg`: path of a file; also draw the conversation there, as a terminal of 100 columns showed it.
    """
    if not svg:
        return _main(Console(highlight=False))
    out = picture.terminal()
    code = _main(out)
    shown = picture.screen(out)
    Console(highlight=False).print(shown, soft_wrap=True)
    if code == 0:
        conversation = shown.divide([shown.plain.index(AFTERWARDS)])[0]
        conversation.rstrip()
        Path(svg).write_text(picture.svg(conversation, "threadwright demo"), encoding="utf-8")
    return code


def _main(out: Console) -> int:
    settings = load()
    with tempfile.TemporaryDirectory(prefix="threadwright-demo-") as folder:
        home = Path(folder)
        home.chmod(0o755)  # as root, the sandbox's user has to get through to its workspace
        if settings.openai_api_key.get_secret_value():
            out.print(Text(f"A real model answers: {settings.model} at {settings.openai_base_url}.", "bold"))
            return play(out, _demo_settings(settings, home), patience=REAL_PATIENCE)
        out.print(Text("The model in this demo is a script on loopback; everything else is real.", "bold"))
        out.print("Redis, RQ, LangGraph, git, the sandbox and the tests do their usual work.")
        out.print("The same with a real model: OPENAI_API_KEY=… make demo")
        with ScriptedModelServer(thinking(demoscript.script())) as server:
            return play(out, _demo_settings(settings, home, server.url), patience=PATIENCE)


def thinking(script: Script) -> Script:
    """The same answers, each after a moment."""

    def answer(request: Request) -> Reply:
        time.sleep(THINKING)
        return script(request)

    return answer


def _demo_settings(settings: Settings, home: Path, url: str = "") -> Settings:
    update: dict[str, Any] = {
        "threadwright_home": home / "data",
        "redis_url": SecretStr(""),
        "forge_dir": home / "forge",
        "on_approval": "merge",
        "second_person": False,
        "path": settings.path,
    }
    if url:
        update |= {"openai_base_url": url, "openai_api_key": SecretStr("scripted"), "model": "scripted-model"}
        update |= {f"model_{role}": "" for role in ("triage", "plan", "implement", "review")}
    return settings.model_copy(update=update)


def play(out: Console, settings: Settings, *, patience: float) -> int:
    """The conversation. Gives 0 when it ends with a merge commit whose tests are green."""
    out.print()
    repository = demoscript.make_repository(settings.forge_dir or settings.threadwright_home / "forge")
    out.print(Text("A sample repository with a bug that one of its tests shows. A person writes:", "dim"))
    try:
        with open_office(settings) as office, Workers(settings, 1), _sweeping(office):
            return _talk(out, office, repository, patience)
    finally:
        _stop_redis(settings)


def _talk(out: Console, office: Office, repository: Path, patience: float) -> int:
    place = new_place()
    chat = _DemoChat(out, place.workspace, office.settings.forge_dir or repository.parent.parent)
    session = Session(office.desk, chat, place, me(), options={"repo": "acme/parcel"})
    end = time.monotonic() + patience
    narrator = _Narrator(chat, office)
    chat.before = lambda: narrator.tell(session.task)
    with _draining(office, chat):
        _type(chat, f"@threadwright {demoscript.TASK}")
        session.words(demoscript.TASK)
        answered: set[str] = set()
        while time.monotonic() < end:
            view = office.desk.task(session.task)
            narrator.tell(session.task)
            if view is None:
                break
            if view.status == "asking" and _open_question(view) not in answered:
                answered.add(_open_question(view))
                _answer(chat, session, view)
            elif view.status == "watching" and chat.result and "approved" not in answered:
                answered.add("approved")
                _pause()
                _type(chat, "/react ✅")
                session.react("approve")
            elif view.status in ("done", "failed", "stopped"):
                _pause()
                narrator.tell(session.task)
                break
            time.sleep(0.1)
    view = office.desk.task(session.task)
    return _epilogue(out, office.settings, view, repository)


def _open_question(view: TaskView) -> str:
    return str((view.data["question"] or {}).get("id", ""))


def _answer(chat: ConsoleChat, session: Session, view: TaskView) -> None:
    """The person answers a clarifying question; anything else is not what the demo is about, and ends it."""
    _pause()
    words = demoscript.ANSWER if (view.data["question"] or {}).get("kind") == "clarify" else "Stop"
    _type(chat, words)
    session.words(words)


def _epilogue(out: Console, settings: Settings, view: TaskView | None, repository: Path) -> int:
    out.print()
    pull = (view.data["pull_request"] if view else None) or {}
    if pull.get("state") != "merged":
        out.print(Text("The demo did not end with a merge. The task's last words are above.", "bold red"))
        return 1
    out.print(Text(AFTERWARDS, "bold"))
    _show_git(out, repository, "log", "--oneline", "--graph", "main")
    merge = demoscript.git(repository, "rev-parse", "main").strip()
    out.print(Text(f"The tests at the merge commit {merge[:7]}, in the sandbox:", "bold"))
    code = _run_tests(out, settings, merge)
    if code == 0:
        out.print(Text("Merged, and green.", "bold green"))
    return code


def _run_tests(out: Console, settings: Settings, commit: str) -> int:
    from jobs.wiring import forge_of  # noqa: PLC0415 - imports git

    workspaces = workspaces_of(settings)
    found, _ = workspaces.fetch(forge_of(settings).resolve("acme/parcel", allow_paths=False))
    box = sandbox_of(settings).open(workspaces.workspace("demo-after-merge", found, commit))
    try:
        outcome = box.run(demoscript.TEST_COMMAND)
    finally:
        box.close()
    out.print(Text(f"$ {demoscript.TEST_COMMAND}\n{neutralise(outcome.output).strip()}", "dim"))
    return 0 if outcome.exit == 0 else 1


class _DemoChat(ConsoleChat):
    """Shows addresses in the forge from the forge's folder on: they are gone with it when the demo ends."""

    def __init__(self, out: Console, workspace: str, forge: Path) -> None:
        super().__init__(out, workspace)
        self._long, self._short = f"{forge.absolute().as_uri()}/", f"{forge.name}/"
        self.before: Callable[[], None] = lambda: None
        """Called before a reply is shown: what led to it stands above it."""

    def post(self, place: Place, what: Said | Card, key: str, *, again: bool = False) -> str:
        if not isinstance(what, Card):
            self.before()
        return super().post(place, self._shortened(what), key, again=again)

    def edit(self, place: Place, message: str, what: Said | Card) -> None:
        super().edit(place, message, self._shortened(what))

    def _shortened(self, what: Said | Card) -> Said | Card:
        if isinstance(what, Card):
            return dataclasses.replace(what, notes=tuple(n.replace(self._long, self._short) for n in what.notes))
        return dataclasses.replace(what, text=what.text.replace(self._long, self._short))


class _Narrator:
    """Shows the task's journal as it grows: what the card leaves out, so that a reader sees the work."""

    def __init__(self, chat: ConsoleChat, office: Office) -> None:
        self._chat = chat
        self._office = office
        self._next = 0
        self._lock = threading.Lock()

    def tell(self, task: str) -> None:
        with self._lock:
            self._tell(task)

    def _tell(self, task: str) -> None:
        for number, entry in self._office.desk.events(task, self._next):
            self._next = number + 1
            for part in demoscript.narrate(entry).splitlines():
                style = RED_STYLE if part.endswith(demoscript.RED) else "dim"
                self._chat.show(Padding(Text(neutralise(part), style), (0, 0, 0, INDENT), expand=False), above=True)


def _type(chat: ConsoleChat, words: str) -> None:
    chat.show(Text("\n") + Text(f"{me().name}> ", "bold cyan") + Text(words))


def _pause() -> None:
    """Long enough for the outbox to say what is due before the person speaks."""
    time.sleep(1.2)


def _show_git(out: Console, repository: Path, *args: str) -> None:
    out.print(Text(f"$ git {' '.join(args)}\n{neutralise(demoscript.git(repository, *args)).rstrip()}", "dim"))


@contextlib.contextmanager
def _draining(office: Office, chat: ConsoleChat) -> Iterator[None]:
    with _thread(office.drainer(chat).run):
        yield


@contextlib.contextmanager
def _sweeping(office: Office) -> Iterator[None]:
    with _thread(office.sweeper().run):
        yield


@contextlib.contextmanager
def _thread(run: Any) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=run, args=(stop,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(5)


def _stop_redis(settings: Settings) -> None:
    from integrations import redisserver  # noqa: PLC0415

    with contextlib.suppress(ThreadwrightError):
        redisserver.stop(settings.threadwright_home)
    shutil.rmtree(settings.threadwright_home, ignore_errors=True)


__all__ = ["JournalEntry", "main", "play"]
