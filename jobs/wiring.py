"""The composition root: settings in, everything wired. `open_office` is light; `crew_of` is what a worker needs."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import redis

from bot.chat import Chat, Desk
from graph.errors import BadInput, Misconfigured
from graph.errors import ThreadwrightError as Problem
from integrations import redisserver
from integrations.gitcommand import SEARCH_PATH
from integrations.localforge import LocalForge
from integrations.redaction import Redactor
from jobs import queue as queueing
from jobs.desk import TaskDesk
from jobs.mail import RedisMail
from jobs.outbox import Drainer, Outbox
from jobs.queue import Wakeups
from jobs.settings import Settings, runtime_folder
from jobs.settings import indexes as index_variables
from jobs.sweeper import Sweeper
from jobs.tasks import Lease, Tasks
from jobs.workers import Workers

if TYPE_CHECKING:
    from graph.ports import Baselines, Box, Halt, Journal, Model, Ports, Rules, Workspace
    from graph.values import Brief, Limits
    from integrations.installs import Policy
    from integrations.sandbox import BoxSandbox
    from jobs.crew import Crew

__all__ = ["Office", "Problem", "Workers", "crew_of", "living_workers", "open_office", "stop_server"]


def server_of(settings: Settings) -> redisserver.Server:
    """Which Redis this installation uses, started if it is ours and not running. Raises Misconfigured."""
    try:
        settings.threadwright_home.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as exc:
        home = settings.threadwright_home
        raise Misconfigured(f"THREADWRIGHT_HOME: I cannot make the folder {home}: {exc.strerror}.") from exc
    return redisserver.ensure(
        settings.threadwright_home,
        settings.redis_url.get_secret_value(),
        search_path=settings.path,
        runtime_dir=runtime_folder(),
    )


def redis_of(settings: Settings) -> redis.Redis:
    """A client of that server, which was found fit. Raises Misconfigured, StoreUnavailable."""
    client = redisserver.connect(server_of(settings).url)
    redisserver.check(client)
    return client


def forge_of(settings: Settings) -> LocalForge:
    return LocalForge(settings.forge_dir, search_path=git_path(settings))


def git_path(settings: Settings) -> str:
    """Where git is looked for: the operator's PATH first."""
    return f"{settings.path}:{SEARCH_PATH}"


def redactor_of(settings: Settings) -> Redactor:
    urls = (settings.redis_url.get_secret_value(), settings.openai_base_url)
    passwords = [unquote(password) for url in urls for password in re.findall(r"//[^/@\s]*?:([^/@\s]+)@", url)]
    own = (
        settings.openai_api_key,
        settings.redis_url,
        settings.slack_bot_token,
        settings.slack_app_token,
        settings.slack_signing_secret,
    )
    whole = [secret.get_secret_value() for secret in own]
    return Redactor([secret for secret in (*whole, *passwords) if secret])


@dataclass(frozen=True)
class Office:
    """What a process that listens works with. Light: no graph, no git, no model."""

    settings: Settings
    redis: redis.Redis
    tasks: Tasks
    outbox: Outbox
    wakeups: Wakeups
    desk: Desk
    now: Callable[[], float] = time.time

    def drainer(self, chat: Chat) -> Drainer:
        return Drainer(self.tasks, chat)

    def mail(self, platform: str, workspace: str) -> RedisMail:
        redactor = redactor_of(self.settings)
        return RedisMail(self.tasks, platform, workspace, redact=redactor.redact, now=self.now)

    def sweeper(self) -> Sweeper:
        return Sweeper(
            self.tasks,
            self.outbox,
            self.wakeups.wake,
            every=self.settings.sweep_seconds,
            now=self.now,
            janitor=self._clean,
            restart=lambda: server_of(self.settings),
        )

    def _clean(self, alive: set[str]) -> None:
        """Workspaces, refs and installed packages that no task needs any more. Imports git, once an hour."""
        from integrations import installs  # noqa: PLC0415

        workspaces_of(self.settings).janitor(alive)
        installs.janitor(self.settings.threadwright_home, alive, self.settings.setup_cache)


@contextlib.contextmanager
def open_office(settings: Settings, *, now: Callable[[], float] = time.time) -> Iterator[Office]:
    """Connect, check, wire. Raises Misconfigured, StoreUnavailable."""
    client = redis_of(settings)
    try:
        tasks = Tasks(client, lease_seconds=settings.lease_seconds)
        outbox = Outbox(tasks)
        wakeups = Wakeups(client)
        desk = TaskDesk(
            tasks, outbox, wakeups.wake, settings, forge_of(settings), redactor=redactor_of(settings), now=now
        )
        yield Office(settings, client, tasks, outbox, wakeups, desk, now)
    finally:
        client.close()


def living_workers(office: Office) -> int:
    """Worker processes whose heartbeat is fresh."""
    return queueing.living_workers(office.redis)


# ---- the worker's side: what follows imports the agent, git and the model's client


class TurnBoxes:
    """The sandbox of one turn: one box a workspace, opened when it is first needed, closed with the turn."""

    def __init__(self, sandbox: BoxSandbox, halt: Halt) -> None:
        self._sandbox = sandbox.for_turn(halt)
        self._open: dict[Path, tuple[Path | None, Box]] = {}

    def open(self, workspace: Workspace) -> Box:
        deps, box = self._open.get(workspace.root, (None, None))
        if box is not None and deps == workspace.deps:
            return box
        if box is not None:
            # What is installed is seen by what is started after it.
            box.close()
            del self._open[workspace.root]
        box = self._sandbox.open(workspace)
        self._open[workspace.root] = workspace.deps, box
        return box

    def close(self) -> None:
        for _, box in self._open.values():
            box.close()
        self._open.clear()


def sandbox_of(settings: Settings) -> BoxSandbox:
    from integrations import sandbox  # noqa: PLC0415 - the listening process needs none of it

    return sandbox.choose(
        settings.sandbox,
        limits=sandbox.BoxLimits(
            command_seconds=settings.command_timeout,
            test_seconds=settings.test_timeout,
            output_bytes=settings.output_kept,
            memory_bytes=settings.sandbox_memory,
            processes=settings.sandbox_processes,
            disk_bytes=settings.sandbox_disk,
        ),
        state_dir=settings.threadwright_home / "sandbox",
        search_path=settings.path,
        unprivileged_uid=settings.sandbox_uid,
        image=settings.sandbox_image,
        process_accepted=settings.i_understand_there_is_no_sandbox,
    )


def check_sandbox(settings: Settings) -> None:
    """Start a box and try to break out. Raises Misconfigured with the knob that is missing, or the way that is open."""
    from integrations import sandbox  # noqa: PLC0415

    sandbox.verify(sandbox_of(settings))


def stop_server(settings: Settings) -> bool:
    """Stop our own Redis of this data folder, nothing lost; False when there was none to stop."""
    return not settings.redis_url.get_secret_value() and redisserver.stop(settings.threadwright_home)


def workspaces_of(settings: Settings) -> Any:
    from integrations.git import GitWorkspaces  # noqa: PLC0415

    return GitWorkspaces(
        settings.threadwright_home,
        protected=settings.protected_paths,
        workspace_uid=uid_of(settings),
        search_path=git_path(settings),
    )


def setup_policy_of(settings: Settings) -> Policy:
    """What set-ups may reach. Raises Misconfigured."""
    from integrations.doorrules import REGISTRIES, DoorRules, parse_host  # noqa: PLC0415
    from integrations.indexes import found  # noqa: PLC0415
    from integrations.installs import Policy  # noqa: PLC0415

    indexes = found(index_variables(), Path.home())
    try:
        named = [parse_host(text) for text in settings.setup_hosts]
        configured = [parse_host(origin) for origin in indexes.origins]
        # One that is named by hand comes first: it may say where its address is.
        hosts = {(host.scheme, host.name, host.port): host for host in (*REGISTRIES, *configured, *named)}
        rules = DoorRules(tuple(hosts.values()), indexes.credentials, total_bytes=settings.setup_disk)
    except BadInput as exc:
        raise Misconfigured(f"These settings are wrong: {exc}") from exc
    return Policy(settings.setup_network, rules, indexes, settings.setup_disk, settings.setup_cache)


def uid_of(settings: Settings) -> int | None:
    """Who owns what boxes write, when that is another user than ours."""
    import os  # noqa: PLC0415

    return settings.sandbox_uid if os.geteuid() == 0 else None


def crew_of(settings: Settings, *, now: Callable[[], float] = time.time) -> Crew:
    """Everything a worker needs, imported and built, no socket open. Raises Misconfigured when a part is missing."""
    from graph import prompting  # noqa: PLC0415
    from graph.flow import build_flow  # noqa: PLC0415
    from graph.ports import Ports  # noqa: PLC0415
    from graph.starting import Triage  # noqa: PLC0415
    from graph.state import STATE_TYPES  # noqa: PLC0415
    from graph.values import Review  # noqa: PLC0415
    from integrations import sandbox as boxes  # noqa: PLC0415
    from integrations.checkpoints import Fence, RedisSaver, serializer  # noqa: PLC0415
    from integrations.installs import InstallFolders  # noqa: PLC0415
    from integrations.model import ChatModel, preload  # noqa: PLC0415
    from jobs.baselines import KeptBaselines  # noqa: PLC0415
    from jobs.crew import Crew  # noqa: PLC0415
    from jobs.journal import LeasedJournal  # noqa: PLC0415

    settings.check_model()
    first = sandbox_of(settings)
    boxes.verify(first)
    client = redis_of(settings)
    tasks = Tasks(client, lease_seconds=settings.lease_seconds)
    redactor = redactor_of(settings)
    serde = serializer(STATE_TYPES)
    flow = build_flow(None)
    workspaces, forge = workspaces_of(settings), forge_of(settings)
    policy = setup_policy_of(settings)
    baselines = KeptBaselines(client, int(settings.keep_days * 86_400))
    model_settings = model_settings_of(settings)
    preload((Triage, Review))
    prompting.preload()

    def flow_for(lease: Lease) -> Any:
        fence = Fence(Tasks.key(lease.task, "lease"), lease.token.encode())
        return flow.copy({"checkpointer": RedisSaver(client, fence=fence, serde=serde)})

    @contextlib.contextmanager
    def ports_for(lease: Lease, brief: Brief, halt: Halt) -> Iterator[Ports]:
        model = ChatModel(model_settings, halt)
        journal = LeasedJournal(tasks, lease, lambda text: redactor.redact(text)[0])
        boxes_of_turn = TurnBoxes(first, halt)
        installs = InstallFolders(settings.threadwright_home, first.for_turn(halt), policy, uid_of(settings))
        try:
            yield Ports(
                model=model,
                workspaces=workspaces,
                sandbox=boxes_of_turn,
                forge=forge,
                journal=journal,
                installs=installs,
                baselines=baselines,
                rules=rules_of(settings, brief.limits, first.warning),
                halt=halt,
                now=lambda: datetime.fromtimestamp(now(), UTC),
            )
        finally:
            model.close()
            boxes_of_turn.close()
            installs.close()

    client.connection_pool.disconnect()
    return Crew(
        settings=settings,
        tasks=tasks,
        outbox=Outbox(tasks),
        flow_for=flow_for,
        ports_for=ports_for,
        redact=lambda text: redactor.redact(text)[0],
        now=now,
        warning=first.warning,
    )


@contextlib.contextmanager
def trial_of(settings: Settings, model: Model, baselines: Baselines, journal: Journal) -> Iterator[Ports]:
    """Everything that looks at a repository, without a task, a lease and Redis. Raises Misconfigured."""
    from graph.ports import Halt, Ports  # noqa: PLC0415
    from graph.values import Limits  # noqa: PLC0415
    from integrations.installs import InstallFolders  # noqa: PLC0415

    halt, sandbox = Halt(), sandbox_of(settings)
    boxes = TurnBoxes(sandbox, halt)
    installs = InstallFolders(
        settings.threadwright_home, sandbox.for_turn(halt), setup_policy_of(settings), uid_of(settings)
    )
    try:
        yield Ports(
            model=model,
            workspaces=workspaces_of(settings),
            sandbox=boxes,
            forge=forge_of(settings),
            journal=journal,
            installs=installs,
            baselines=baselines,
            rules=rules_of(settings, Limits(), sandbox.warning),
            halt=halt,
            now=lambda: datetime.now(UTC),
        )
    finally:
        boxes.close()
        installs.close()


def rules_of(settings: Settings, limits: Limits, warning: str) -> Rules:
    from graph.ports import Rules  # noqa: PLC0415

    return Rules(
        limits=limits,
        command_seconds=settings.command_timeout,
        test_seconds=settings.test_timeout,
        setup_seconds=settings.setup_timeout,
        protected=settings.protected_paths,
        sandbox_warning=warning,
    )


def model_settings_of(settings: Settings) -> Any:
    from integrations.model import ModelSettings, Price  # noqa: PLC0415

    return ModelSettings(
        base_url=settings.openai_base_url,
        api_key=settings.openai_api_key.get_secret_value(),
        models={
            "triage": settings.model_of("triage"),
            "plan": settings.model_of("plan"),
            "implement": settings.model_of("implement"),
            "review": settings.model_of("review"),
        },
        prices={
            name: Price(input=p.input, cached=p.cached, output=p.output) for name, p in settings.model_prices.items()
        },
        timeout=settings.model_timeout,
        patience=settings.model_patience,
    )
