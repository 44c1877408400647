"""The `threadwright` command, and the one place where `bot` and `jobs` are put together.

Nothing imports this module. What is heavy is imported inside the command that needs it: `status` must answer at once.
"""
# ruff: noqa: PLC0415 - see above

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console

from bot import cli
from bot.chat import DeskClosed, Place, TaskView, Undeliverable
from bot.commands import TASK, VERBS, BadOption, Verb, VerbHelp, parse
from bot.console import ConsoleChat
from bot.hands import Hands, watched
from bot.invocation import Approve, AsJson, Branch, Budget, ModelName, PlanMode, Repo, WorkTime, as_called, command_name
from bot.session import Keyboard, Session, follow, home_of, me, new_place, read_pipe
from bot.text import neutralise, plain

if TYPE_CHECKING:
    from jobs.settings import Settings
    from jobs.wiring import Office

app = typer.Typer(
    help="A coding agent that lives in chat threads. `threadwright help` explains the verbs and options.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

CHANGING = frozenset({"finish", "resume", "retry", "approve", "reject", "move"})
"""Verbs after which a worker has something to do."""
ELSEWHERE = ("Slack", "Discord", "GitHub")


# Errors, in plain words


@contextmanager
def _plainly(*, as_json: bool = False) -> Iterator[None]:
    """Every error of ours ends as its sentence and an exit code."""
    try:
        yield
    except (cli.BadUsage, BadOption) as exc:
        _fail(str(exc), cli.USAGE, as_json)
    except _problems() as exc:
        _fail(str(exc), cli.FAILED, as_json)


def _problems() -> tuple[type[Exception], ...]:
    from jobs.wiring import Problem

    return Problem, DeskClosed, Undeliverable, cli.CannotGoOn


def _fail(sentence: str, code: int, as_json: bool, task: str = "") -> NoReturn:
    sentence = as_called(sentence)
    typer.echo(neutralise(plain(sentence)), err=True)
    if as_json:
        _print_json({"task": task or None, "error": sentence, "exit": code})
    raise typer.Exit(code)


def _print_json(data: object) -> None:
    typer.echo(json.dumps(data, default=str))


def _settings() -> Settings:
    from jobs.settings import load
    from jobs.wiring import Problem

    try:
        return load()
    except Problem as exc:
        raise cli.BadUsage(str(exc)) from exc


# Parts that commands share


@contextmanager
def _office() -> Iterator[Office]:
    from jobs.wiring import open_office

    with open_office(_settings()) as office:
        yield office


@contextmanager
def _sweeping(office: Office) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=office.sweeper().run, args=(stop,), name="sweeper", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(5)


@contextmanager
def _hands(office: Office) -> Iterator[Hands]:
    """See to it that somebody works: a worker of ours, until this command ends, once no other lives."""
    from jobs.wiring import Workers, living_workers

    path = office.settings.threadwright_home / "worker.log"
    # The sweeper in any case: that of others goes when they go, and only one sweeps at a time.
    with ExitStack() as stack, _sweeping(office):

        def start() -> None:
            # Not to the terminal: the conversation is there.
            log = stack.enter_context(path.open("ab"))
            stack.enter_context(Workers(office.settings, 1, log=log.fileno()))

        hands = Hands(lambda: living_workers(office) > 0, start, log=str(path))
        hands.look()
        yield hands


def _terminate(*_: object) -> NoReturn:
    """SIGTERM unwinds like any other end, so that workers of ours are stopped."""
    raise SystemExit(128 + signal.SIGTERM)


def _session(office: Office, place: Place, *, stderr: bool = False, view: TaskView | None = None) -> Session:
    chat = ConsoleChat(Console(stderr=stderr, highlight=False), place.workspace)
    return Session(office.desk, chat, place, me(), task=view.id if view else "")


def _stay(
    office: Office, hands: Hands, session: Session, answers: list[str], *, approve: bool, as_json: bool
) -> NoReturn:
    """Follow the session's task to its exit code, say how it stands, and exit."""
    here = session.place.platform == "console"
    drainer = office.drainer(session.chat)
    try:
        # What is due elsewhere is posted by whoever listens there.
        drain = drainer.run_once if here else int
        code = follow(session, answers=answers, approve=approve, drain=drain, wait=hands.wait)
    except KeyboardInterrupt:
        session.chat.say(as_called(cli.leaving_text(session.view(), workers=hands.others)))
        raise typer.Exit(128 + signal.SIGINT) from None
    except cli.CannotGoOn as exc:
        _fail(str(exc), cli.FAILED, as_json, session.task)
    finally:
        drainer.let_go()
    view = session.view()
    if view is not None and not here:
        session.verb(f"status {view.id}")
    if view is not None and code == cli.QUESTION:
        session.chat.say(as_called(cli.question_text(view)))
    if as_json:
        _print_json({"task": session.task, "exit": code, **(view.data if view else {})})
    raise typer.Exit(code)


# Conversations


@app.command()
def run(
    task: Annotated[str, typer.Argument(help="What to do, in words.")],
    repo: Repo = "",
    answer: Annotated[list[str] | None, typer.Option("--answer", metavar="TEXT", help="Answers, in order.")] = None,
    approve: Approve = False,
    branch: Branch = "",
    model: ModelName = "",
    plan: PlanMode = "",
    budget: Budget = "",
    minutes: WorkTime = "",
    as_json: AsJson = False,
) -> None:
    """One task without a person. Exit 0 done, 3 a question, 4 nothing to change, 1 failed, 2 bad usage."""
    signal.signal(signal.SIGTERM, _terminate)
    with _plainly(as_json=as_json):
        options = cli.options(repo, branch, model, plan, budget, minutes)
        if not task.strip() or isinstance(parse(task, local=True), Verb):
            raise cli.BadUsage(f"`{task.strip()}` is no task. Verbs are commands: `threadwright help` lists them.")
        with _office() as office, _hands(office) as hands:
            session = _session(office, new_place(), stderr=as_json)
            session.options = options
            if not session.words(task).task:
                _fail("Nothing was started.", cli.FAILED, as_json)
            _stay(office, hands, session, answer or [], approve=approve, as_json=as_json)


@app.command(name="answer")
def answer_task(
    words: Annotated[list[str], typer.Argument(metavar="[TASK] TEXT", help="The answer; a number picks a suggestion.")],
    approve: Approve = False,
    as_json: AsJson = False,
) -> None:
    """Answer the open question of a task, and stay with it as `run` does."""
    signal.signal(signal.SIGTERM, _terminate)
    with _plainly(as_json=as_json), _office() as office:
        named = words[0] if TASK.fullmatch(words[0]) else ""
        text = " ".join(words[1:] if named else words).strip()
        view = cli.pick_task(office.desk, named, "answer")
        if not text or view.status not in ("asking", "parked"):
            raise cli.BadUsage(f"{view.id} has no open question: {view.state}." if text else "What is the answer?")
        with _hands(office) as hands:
            session = _session(office, home_of(view), stderr=as_json, view=view)
            _stay(office, hands, session, [text], approve=approve, as_json=as_json)


@app.command()
def chat(
    repo: Repo = "",
    task: Annotated[str, typer.Option("--task", help="Go on with the conversation about this task.")] = "",
    branch: Branch = "",
    model: ModelName = "",
    plan: PlanMode = "",
    budget: Budget = "",
    minutes: WorkTime = "",
) -> None:
    """A conversation in the terminal: tasks, answers, verbs, `/react ✅`, `/quit`. Lines may also be piped in."""
    signal.signal(signal.SIGTERM, _terminate)
    with _plainly():
        options = cli.options(repo, branch, model, plan, budget, minutes)
        with _office() as office:
            view = cli.pick_task(office.desk, task) if task else None
            with _hands(office) as hands:
                session = _session(office, home_of(view) if view else new_place(), view=view)
                session.options = options
                try:
                    (_talk if sys.stdin.isatty() else _read)(office, hands, session)
                except KeyboardInterrupt:
                    typer.echo()
                if left := cli.leaving_text(session.view(), workers=hands.others):
                    session.chat.say(as_called(left))


def _talk(office: Office, hands: Hands, session: Session) -> None:
    """Lines from a person, while the drainer prints what is said to them."""
    keyboard = Keyboard(typer.echo)
    session.chat.typed = keyboard.unsent
    session.chat.say("Tell me what to change. `help` lists the verbs; `/quit` leaves.")
    stop = threading.Event()
    thread = threading.Thread(target=office.drainer(session.chat).run, args=(stop,), name="drainer", daemon=True)
    thread.start()
    try:
        with watched(hands, _problems(), lambda words: session.chat.say(as_called(words))):
            while (line := keyboard.line()) is not None and session.line(line):
                pass
    finally:
        stop.set()
        thread.join(5)


def _read(office: Office, hands: Hands, session: Session) -> None:
    drainer = office.drainer(session.chat)
    try:
        read_pipe(session, sys.stdin, drain=drainer.run_once, wait=hands.wait)
    finally:
        drainer.let_go()


# Verbs


def _register(verb: VerbHelp) -> None:
    def command(words: list[str] | None = None, as_json: bool = False) -> None:
        with _plainly(as_json=as_json):
            _obey(verb, words or [], as_json)

    # Set here, since typer reads annotations where `verb` is not known.
    words = Annotated[list[str] | None, typer.Argument(metavar=cli.arguments_of(verb), show_default=False)]
    command.__annotations__ = {"words": words, "as_json": AsJson, "return": None}
    command.__doc__ = f"{verb.help[0].upper()}{verb.help[1:]}."
    app.command(name=verb.name)(command)
    for alias in verb.aliases:
        app.command(name=alias, hidden=True)(command)


def _obey(verb: VerbHelp, words: list[str], as_json: bool) -> None:
    """One verb from the command line: the desk answers it as it does in a chat."""
    order = cli.read_order(verb, words)
    if verb.name == "help":
        typer.echo(as_called(plain(cli.cli_help())))
        return
    with _office() as office:
        if verb.name == "list" and as_json:
            views = office.desk.tasks(mine=me().id if order.arguments else "")
            _print_json({"tasks": [view.data for view in views]})
            return
        view = cli.pick_task(office.desk, order.task, verb.name) if order.task or order.needs_task else None
        if view and verb.name == "status" and as_json:
            _print_json(view.data)
            return
        session = _session(office, home_of(view) if view else new_place(), stderr=as_json, view=view)
        was = cli.status_of(view)
        receipt = session.verb(order.text(view.id if view else ""))
        if as_json:
            _print_json(cli.said(verb.name, session.task, receipt))
        if verb.name in CHANGING and (receipt.seen or cli.status_of(session.view()) != was):
            _mention_idle(office)
    if receipt.whisper:
        raise typer.Exit(cli.FAILED)


def _mention_idle(office: Office) -> None:
    """What was asked for is stored, and nothing comes of it while nobody works."""
    from jobs.wiring import living_workers

    if not living_workers(office):
        typer.echo(as_called(cli.NO_WORKER), err=True)


for _verb in VERBS:
    _register(_verb)


# Processes


@app.command()
def up(
    workers: Annotated[
        int | None, typer.Option("--workers", min=0, max=64, help="Worker processes; else the setting WORKERS.")
    ] = None,
) -> None:
    """Start what is configured and stay: Redis if needed, workers, the sweeper, chat adapters."""
    from jobs.listening import listening
    from jobs.wiring import Workers

    stop = threading.Event()
    with _plainly(), _office() as office:
        count = office.settings.workers if workers is None else workers
        with Workers(office.settings, count) as crew, _sweeping(office), listening(office, typer.echo) as platforms:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: stop.set())
            typer.echo(f"Redis answers, {count} {'worker' if count == 1 else 'workers'} and the sweeper run.")
            if missing := [name for name in ELSEWHERE if name not in platforms]:
                hint = f"Not configured: {', '.join(missing)}. Talk to me with `threadwright chat --repo PATH-or-URL`."
                typer.echo(as_called(hint))
            while not stop.wait(0.5):
                if crew.broken:
                    raise cli.CannotGoOn("The workers die as soon as they start; what they said stands above.")
            typer.echo("Stopping: running steps are kept, tasks go on at the next start.")


@app.command()
def manifest(
    platform: Annotated[str, typer.Argument(help="Which one: slack.")],
    host: Annotated[str, typer.Option("--host", help="Public name of this machine, for HTTP; else Socket Mode.")] = "",
) -> None:
    """Print the manifest to make the app from."""
    with _plainly():
        if platform.lower() != "slack":
            raise cli.BadUsage(f"There is no manifest for `{platform}`, only for slack.")
        from bot.slack.manifest import manifest as text

        try:
            typer.echo(text(host), nl=False)
        except ValueError as exc:
            raise cli.BadUsage(f"--host: {exc}") from exc


@app.command()
def down() -> None:
    """Stop our own Redis of this data folder. Nothing is lost; the next command starts it again."""
    from jobs.wiring import living_workers, open_office, stop_server

    with _plainly():
        settings = _settings()
        with open_office(settings) as office:
            if living_workers(office):
                raise cli.BadUsage("Workers are running. Stop `threadwright up` first.")
        typer.echo("Redis is stopped." if stop_server(settings) else "REDIS_URL is not ours to stop.")


@app.command(hidden=True)
def worker(parent: Annotated[int, typer.Option(hidden=True, help="It ends with this process.")] = 0) -> None:
    """One worker process; `up` starts these."""
    with _plainly():
        from jobs.worker import main as work

        work(_settings(), parent)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Say for each part whether it works, and what to do if not. Exit 1 when something needed does not."""
    with _plainly(as_json=as_json):
        try:
            settings = _settings()
        except cli.BadUsage as exc:
            parts: list[cli.Part] = [cli.Found("settings", False, str(exc), "Correct them in the environment.")]
        else:
            from jobs.doctor import examine

            parts = list(examine(settings))
        if as_json:
            keys = ("name", "ok", "detail", "remedy", "needed")
            _print_json({"parts": [{key: getattr(part, key) for key in keys} for part in parts]})
        else:
            typer.echo(as_called(cli.doctor_text(parts)))
        if any(part.needed and not part.ok for part in parts):
            raise typer.Exit(cli.FAILED)


@app.command(name="check")
def check_repository(
    repo: Repo = "",
    branch: Branch = "",
    file: Annotated[
        str, typer.Option("--file", metavar="TOML", help="A .threadwright.toml to try instead of the committed one.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Try a repository: find its commands, run set-up and baseline in the sandbox, and say what a task would miss."""
    with _plainly(as_json=as_json):
        if not repo:
            raise cli.BadUsage("Which repository? Name it with --repo PATH-or-URL.")
        from jobs import trying

        config = Path(file) if file else None
        trial = trying.attempt(
            _settings(), cli.repository(repo), branch, config, lambda line: typer.echo(neutralise(line), err=as_json)
        )
        if as_json:
            _print_json({**trial.data(), "exit": cli.FAILED if trial.missing else cli.OK})
        else:
            typer.echo(neutralise(trying.text(trial)))
        if trial.missing:
            raise typer.Exit(cli.FAILED)


@app.command()
def demo(svg: Annotated[str, typer.Option("--svg", metavar="FILE", help="Also draw it as a picture.")] = "") -> None:
    """One whole conversation with a scripted model, on a sample repository."""
    with _plainly():
        from jobs.demo import main as play

        raise typer.Exit(play(svg))


def main() -> None:
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A terminal that cannot show ✓ shall not end in a traceback.
            stream.reconfigure(errors="backslashreplace")
    app(prog_name=command_name())


if __name__ == "__main__":
    main()
