"""Every setting, typed, with a sentence each; the only place where the environment is read, once, by `load` in `main`.

The name of a setting in the environment is its name here in capitals: `redis_url` is `REDIS_URL`.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from graph.errors import Misconfigured

PROTECTED = (
    ".github/workflows/**",
    ".github/actions/**",
    "CODEOWNERS",
    ".github/CODEOWNERS",
    "docs/CODEOWNERS",
    ".gitmodules",
    ".gitattributes",
    ".lfsconfig",
    ".threadwright.toml",
)


MOST_WORKERS = 64
"""Each takes some 140 MB."""


def _words(value: object) -> object:
    """A list in the environment is words with commas or spaces between them."""
    return tuple(word for word in value.replace(",", " ").split() if word) if isinstance(value, str) else value


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]


class Price(BaseModel):
    """US dollars per million tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cached: float | None = Field(default=None, ge=0)


def _data_folder() -> Path:
    base = os.environ.get("XDG_DATA_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".local" / "share") / "threadwright"


class Settings(BaseSettings):
    model_config = SettingsConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    threadwright_home: Path = Field(
        default_factory=_data_folder,
        description="The data folder: Redis' files, mirrors, workspaces. Workers of one Redis on a machine share it.",
    )
    redis_url: SecretStr = Field(
        default=SecretStr(""),
        description="A Redis or Valkey ≥ 7 that evicts nothing. Empty: our own server is started.",
    )
    forge_dir: Path | None = Field(
        default=None,
        description="The local forge: a folder of bare repositories (`owner/name.git`) to work on by name. "
        "Paths given in the terminal need none.",
    )
    default_repository: str = Field(default="", description="Repository for requests that name none.")

    slack_bot_token: SecretStr = Field(
        default=SecretStr(""), description="Slack: the bot's token (`xoxb-…`). Set, `threadwright up` listens to Slack."
    )
    slack_app_token: SecretStr = Field(
        default=SecretStr(""),
        description="Slack: the app-level token (`xapp-…`) for Socket Mode, which needs no public address.",
    )
    slack_signing_secret: SecretStr = Field(
        default=SecretStr(""),
        description="Slack: the signing secret, for HTTP in place of Socket Mode (used when there is no app token).",
    )
    slack_api_url: str = Field(
        default="https://slack.com/api/", description="Slack: base of the Web API, for GovSlack or a proxy."
    )
    slack_allowed: Words = Field(
        default=(),
        description="Slack: ids of bots (`B…`), apps (`A…`), guests and people of other organisations (`U…`) who may "
        "start tasks as members do.",
    )
    http_host: str = Field(default="127.0.0.1", description="Address that the HTTP server of `threadwright up` binds.")
    http_port: int = Field(default=3000, ge=0, le=65_535, description="Its port; 0 takes a free one.")

    openai_api_key: SecretStr = Field(default=SecretStr(""), description="Key of the model's API.")
    openai_base_url: str = Field(default="https://api.openai.com/v1", description="Any OpenAI-compatible API.")
    model: str = Field(default="gpt-5", description="Model of all roles that have none of their own.")
    model_triage: str = Field(default="", description="Model that decides what a message is.")
    model_plan: str = Field(default="", description="Model that plans.")
    model_implement: str = Field(default="", description="Model that implements.")
    model_review: str = Field(default="", description="Model that reviews the diff.")
    model_prices: dict[str, Price] = Field(
        default_factory=dict,
        description='Prices per million tokens, as JSON: `{"gpt-5": {"input": 1.25, "cached": 0.125, "output": 10}}`. '
        "A model without one counts in tokens.",
    )
    model_timeout: float = Field(
        default=120, gt=0, description="Seconds until one model call counts as hung. A slow model needs more."
    )
    model_patience: float = Field(
        default=120, gt=0, description="Seconds of failed tries until the task waits without a worker."
    )
    model_retry_every: float = Field(default=300, gt=0, description="Seconds between tries while the model is down.")
    model_retry_for: float = Field(
        default=21_600, gt=0, description="Seconds of such waiting until the task ends as failed."
    )

    budget_usd: float = Field(default=2, gt=0, description="US dollars after which a task stops and asks.")
    budget_tokens: int = Field(
        default=2_000_000, gt=0, description="Tokens after which it stops and asks, where the price is unknown."
    )
    budget_calls: int = Field(default=200, gt=0, description="Model calls after which it stops and asks.")
    budget_minutes: float = Field(
        default=60, gt=0, description="Minutes of work, waiting not counted, after which it stops and asks."
    )

    on_approval: Literal["ready", "review", "merge"] = Field(
        default="ready", description="What ✅ does: mark the draft ready, review it by a second identity, or merge it."
    )
    second_person: bool | None = Field(
        default=None, description="Refuse the requester's own ✅. Not set: yes with `merge`, no otherwise."
    )
    approvers: Words = Field(
        default=(), description="Who may approve besides the terminal's user: `platform:workspace:user`, with commas."
    )
    protected_paths: Words = Field(
        default=PROTECTED, description="Paths that need a person's yes before they leave (gitignore patterns)."
    )

    sandbox: Literal["auto", "bubblewrap", "docker", "podman", "process"] = Field(
        default="auto", description="Driver of the sandbox. `auto` is bubblewrap; it never falls back."
    )
    i_understand_there_is_no_sandbox: bool = Field(
        default=False, description="Must be true, besides SANDBOX=process, to run commands without a sandbox."
    )
    sandbox_image: str = Field(default="", description="Image of the docker and podman drivers.")
    sandbox_uid: int = Field(
        default=64_301, gt=0, description="Unprivileged user that commands run as when started as root."
    )
    command_timeout: float = Field(default=120, gt=0, description="Seconds a command may take.")
    test_timeout: float = Field(default=600, gt=0, description="Seconds a test run may take.")
    output_kept: int = Field(default=64_000, ge=1_000, description="Bytes of a command's output kept, head and tail.")
    sandbox_memory: int = Field(default=4 << 30, gt=0, description="Bytes of memory a process in the sandbox may have.")
    sandbox_processes: int = Field(default=512, gt=0, description="Processes in the sandbox.")
    sandbox_disk: int = Field(default=2 << 30, gt=0, description="Bytes a task's workspace may take.")

    setup_network: bool = Field(
        default=True,
        description="Whether the set-up of a repository may reach package registries; nothing else ever may.",
    )
    setup_hosts: Words = Field(
        default=(),
        description="Hosts that a set-up may reach besides the usual registries, with commas: `name`, `name:port` or "
        "`http://name:port`; `name=10.1.2.0/24` for one whose address is private.",
    )
    setup_timeout: float = Field(default=900, gt=0, description="Seconds the whole set-up of a repository may take.")
    setup_disk: int = Field(default=4 << 30, gt=0, description="Bytes one set-up may install and download.")
    setup_cache: int = Field(
        default=20 << 30,
        gt=0,
        description="Bytes that what was installed may take in all; what was not used for longest goes first.",
    )

    workers: int = Field(default=2, ge=0, le=MOST_WORKERS, description="Worker processes of `threadwright up`.")
    lease_seconds: float = Field(default=15, gt=0, description="How long a dead worker keeps its task.")
    beat_seconds: float = Field(default=0.5, gt=0, description="How often a worker looks for a stop and new words.")
    checks_every: float = Field(
        default=60,
        gt=0,
        description="Seconds between looks at the forge's checks, where they decide because tests could not run here.",
    )
    sweep_seconds: float = Field(default=5, gt=0, description="How often the sweeper looks for tasks nobody works on.")
    ask_timeout: float = Field(
        default=24, gt=0, description="Hours, weekends not counted, until a clarifying question's assumptions hold."
    )
    park_after: float = Field(
        default=7, gt=0, description="Days until a task whose question cannot time out is parked."
    )
    keep_days: float = Field(default=30, gt=0, description="Days that an ended task's conversation stays in Redis.")
    timezone: str = Field(default="UTC", description="Time zone in which weekdays and days are counted.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="warning", description="What is logged.")
    path: str = Field(
        default="/usr/local/bin:/usr/bin:/bin", description="Where tools and toolchains are found; the shell sets it."
    )

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError) as exc:
            raise ValueError("not a time zone name such as Europe/Berlin") from exc
        return value

    @field_validator("openai_base_url", "slack_api_url")
    @classmethod
    def _an_address(cls, value: str) -> str:
        if not re.match(r"https?://[^/\s]+", value):
            raise ValueError("not an address such as https://api.example.com/v1")
        return value

    @field_validator("slack_bot_token", "slack_app_token")
    @classmethod
    def _kind_of_token(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        start = "xoxb-" if info.field_name == "slack_bot_token" else "xapp-"
        if value.get_secret_value() and not value.get_secret_value().startswith(start):
            raise ValueError(f"this token begins with {start}")
        return value

    @field_validator("threadwright_home", "forge_dir")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value.expanduser().absolute() if value else value

    @property
    def wants_second_person(self) -> bool:
        return self.on_approval == "merge" if self.second_person is None else self.second_person

    def check_slack(self) -> None:
        """For whoever listens. Raises Misconfigured when Slack is configured in part only."""
        bot, app, secret = (
            bool(s.get_secret_value()) for s in (self.slack_bot_token, self.slack_app_token, self.slack_signing_secret)
        )
        if bot and not (app or secret):
            raise Misconfigured(
                "SLACK_BOT_TOKEN alone hears nothing. Set SLACK_APP_TOKEN (Socket Mode: Basic Information, App-Level "
                "Tokens, scope connections:write) or SLACK_SIGNING_SECRET (HTTP)."
            )
        if (app or secret) and not bot:
            raise Misconfigured("SLACK_BOT_TOKEN is missing (OAuth & Permissions, Bot User OAuth Token).")

    def check_model(self) -> None:
        """For whoever starts workers. Raises Misconfigured when no model can be asked."""
        if not self.openai_api_key.get_secret_value():
            raise Misconfigured(
                "There is no key for the model. Set OPENAI_API_KEY (any text for a server that wants none), "
                "and OPENAI_BASE_URL and MODEL for another one than OpenAI's."
            )

    def model_of(self, role: str) -> str:
        return str(getattr(self, f"model_{role}")) or self.model


def load() -> Settings:
    """Read the environment. Raises Misconfigured that names every wrong setting."""
    try:
        return Settings()
    except SettingsError as exc:
        # A value that has to be JSON and is not.
        name = re.search(r'field "(\w+)"', str(exc))
        which = name[1].upper() if name else "One of them"
        raise Misconfigured(f"These settings are wrong: {which}: not readable as JSON") from None
    except ValidationError as exc:
        wrong = [f"{'.'.join(str(p) for p in e['loc']).upper()}: {e['msg']}" for e in exc.errors()]
        raise Misconfigured("These settings are wrong: " + "; ".join(wrong)) from None


def indexes() -> dict[str, str]:
    """What tells pip, uv and npm where packages come from, to whoever reads their files, and stays outside the box.

    A file of npm's may refer to any variable (`${TOKEN}`), so it is the whole environment.
    """
    return dict(os.environ)


def environment(settings: Settings) -> dict[str, str]:
    """The environment in which a process of ours reads the same settings."""
    found: dict[str, str] = {}
    for name in settings.model_fields_set:
        value = getattr(settings, name)
        if value is None:
            continue
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        elif isinstance(value, tuple):
            value = ",".join(value)
        elif isinstance(value, dict):
            value = json.dumps({key: price.model_dump() for key, price in value.items()})
        found[name.upper()] = str(value)
    return found


def child_environment(settings: Settings) -> dict[str, str]:
    """For a process of ours: what this one was given, with the settings that it runs with."""
    return {**os.environ, **environment(settings)}


def markdown_table() -> str:
    """The README's table of settings."""
    rows = ["| Setting | Default | What it does |", "| --- | --- | --- |"]
    for name, info in Settings.model_fields.items():
        default = _shown_default(name, info.get_default(call_default_factory=False))
        rows.append(f"| `{name.upper()}` | {default} | {info.description} |")
    return "\n".join(rows)


def without_password(url: str) -> str:
    """For people: an address without what stands before its `@`."""
    return re.sub(r"//[^/@\s]*@", "//", url)


def _shown_default(name: str, value: object) -> str:
    if name == "threadwright_home":
        return "`$XDG_DATA_HOME/threadwright`"
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, tuple):
        value = " ".join(value)
    if isinstance(value, float) and value == int(value):
        value = int(value)
    if isinstance(value, bool):
        value = str(value).lower()
    if value in (None, "") or repr(value) == "PydanticUndefined":
        return "–"
    return f"`{value}`"


def runtime_folder() -> Path:
    """Where sockets may live: short, ours alone."""
    return Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
