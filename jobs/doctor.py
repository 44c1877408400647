"""`threadwright doctor`: looks at each part as it is now, and says what to do about those that do not work."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from graph.errors import StoreUnavailable, ThreadwrightError
from jobs import wiring
from jobs.queue import living_workers
from jobs.settings import Settings, without_password

OLDEST_PYTHON = (3, 11)
OLDEST_GIT = (2, 38)
"""`git merge-tree --write-tree`, with which the local forge merges, came with 2.38."""


@dataclass(frozen=True)
class Part:
    name: str
    ok: bool
    detail: str
    remedy: str = ""
    needed: bool = True
    """False: the main job goes on without it."""


def examine(settings: Settings) -> list[Part]:
    """One part a line, in the order in which a task needs them."""
    looks: list[Callable[[Settings], list[Part]]] = [
        _python,
        _git,
        _redis,
        _workers,
        _sandbox,
        _setup,
        _model,
        _repositories,
        _slack,
    ]
    found = []
    for look in looks:
        found += look(settings)
    return found


def _python(_: Settings) -> list[Part]:
    version = ".".join(str(n) for n in sys.version_info[:3])
    return [Part("Python", sys.version_info >= OLDEST_PYTHON, version, "Install Python 3.11 or newer.")]


def _git(settings: Settings) -> list[Part]:
    binary = shutil.which("git", path=wiring.git_path(settings))
    if binary is None:
        return [Part("git", False, "not on the PATH", "Install git 2.38 or newer.")]
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False, timeout=10).stdout.strip()
    numbers = tuple(int(n) for n in said.removeprefix("git version ").split(".")[:2] if n.isdigit())
    return [Part("git", numbers >= OLDEST_GIT, said, "Install git 2.38 or newer.")]


def _redis(settings: Settings) -> list[Part]:
    try:
        client = wiring.redis_of(settings)
        try:
            version = client.info("server")["redis_version"]
        finally:
            client.close()
    except ThreadwrightError as exc:
        return [Part("Redis", False, str(exc), "See above; REDIS_URL chooses another server.")]
    origin = "REDIS_URL" if settings.redis_url.get_secret_value() else "our own server"
    return [Part("Redis", True, f"{version}, {origin}")]


def _workers(settings: Settings) -> list[Part]:
    try:
        client = wiring.redis_of(settings)
        try:
            count = living_workers(client)
        finally:
            client.close()
    except (ThreadwrightError, StoreUnavailable):
        return []
    remedy = "`threadwright up` starts some; `chat`, `run` and `answer` start one for their own time."
    return [Part("Workers", count > 0, f"{count} alive", remedy, needed=False)]


def _sandbox(settings: Settings) -> list[Part]:
    more = "README, “When the sandbox does not start”, has more on it."
    try:
        sandbox = wiring.sandbox_of(settings)
    except ThreadwrightError as exc:
        what, _, lines = str(exc).partition("\n")
        return [Part("Sandbox", False, what, f"{lines}\n{more}".lstrip())]
    try:
        findings = sandbox.self_test()
    except ThreadwrightError as exc:
        remedy = f"{sandbox.driver.remedy(str(exc))}.\n{more}"
        return [Part("Sandbox", False, f"{sandbox.name} does not start: {exc}", remedy)]
    open_ways = [f for f in findings if not f.ok]
    if sandbox.warning:
        return [Part("Sandbox", True, f"{sandbox.name}: {sandbox.warning}", needed=False)]
    detail = f"{sandbox.name}: {len(findings)} escapes tried, {len(open_ways)} worked"
    remedy = "; ".join(f"{f.name}: {f.remedy or f.detail}" for f in open_ways)
    return [Part("Sandbox", not open_ways, detail, remedy)]


def _setup(settings: Settings) -> list[Part]:
    """Where packages may come from; what of the operator's own configuration cannot be used in a sandbox."""
    try:
        policy = wiring.setup_policy_of(settings)
    except ThreadwrightError as exc:
        return [Part("Set-up", False, str(exc), "Correct SETUP_HOSTS.")]
    if not policy.network:
        return [Part("Set-up", True, "no network (SETUP_NETWORK): own commands only", needed=False)]
    hosts = [host.authority for host in policy.rules.hosts]
    ignored = policy.indexes.ignored if policy.indexes is not None else ()
    detail = f"packages from {', '.join(hosts)}"
    parts = [Part("Set-up", True, detail, needed=False)]
    return parts + [Part("Package index", False, sentence, needed=False) for sentence in ignored]


def _model(settings: Settings) -> list[Part]:
    import httpx  # noqa: PLC0415 - only here; comes with the model's client

    url = settings.openai_base_url.rstrip("/")
    shown = without_password(url)
    key = settings.openai_api_key.get_secret_value()
    if not key:
        return [Part("Model", False, "no key", "Set OPENAI_API_KEY (any text for a server that wants none).")]
    try:
        answer = httpx.get(f"{url}/models", headers={"Authorization": f"Bearer {key}"}, timeout=10)
    except httpx.HTTPError as exc:
        return [Part("Model", False, f"{shown}: {type(exc).__name__}", "Look at OPENAI_BASE_URL and the network.")]
    if answer.status_code in (401, 403):
        return [Part("Model", False, f"{shown}: the key is not accepted", "Set another OPENAI_API_KEY.")]
    names = _model_names(answer)
    wanted = {settings.model_of(role) for role in ("triage", "plan", "implement", "review")}
    missing = sorted(wanted - names) if names else []
    detail = f"{shown}, {', '.join(sorted(wanted))}"
    if missing:
        return [Part("Model", False, f"{detail}: the server does not list {', '.join(missing)}", "Set MODEL.")]
    priced = all(any(name.startswith(p) for p in settings.model_prices) for name in wanted)
    return [Part("Model", True, detail + ("" if priced else " (price unknown: counted in tokens)"))]


def _model_names(answer: object) -> set[str]:
    """Names that `/models` lists; empty when the server has no such page."""
    try:
        body = answer.json()  # type: ignore[attr-defined]
        return {str(item["id"]) for item in body["data"]}
    except (ValueError, KeyError, TypeError):
        return set()


def _repositories(settings: Settings) -> list[Part]:
    if settings.forge_dir is None:
        detail = "none configured; the terminal takes paths"
        return [Part("Repositories", True, detail, "FORGE_DIR names a folder of bare repositories.", needed=False)]
    names = wiring.forge_of(settings).repositories()
    remedy = f"Put bare repositories (`owner/name.git`) into {settings.forge_dir}."
    return [Part("Repositories", bool(names), f"{len(names)} in {settings.forge_dir}", remedy, needed=False)]


def _slack(settings: Settings) -> list[Part]:
    from bot.slack import checkup  # noqa: PLC0415 - slack_sdk is loaded only where Slack is configured
    from jobs.listening import slack_config  # noqa: PLC0415

    try:
        config = slack_config(settings)
    except ThreadwrightError as exc:
        return [Part("Slack", False, str(exc), "README has the steps, under Slack.")]
    if config is None:
        remedy = "README: Slack, from nothing to the first answer."
        return [Part("Slack", True, "not configured", remedy, needed=False)]
    return [Part(found.name, found.ok, found.detail, found.remedy) for found in checkup.look(config)]
