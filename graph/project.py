"""`.threadwright.toml`: what a repository says about how it is set up and checked, and how its own tasks go.

The text comes from the default branch and never from a task's own: whoever may push to that one decides what is run.
It counts as hostile all the same, so what is read is bounded before it is parsed.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, Strict, WithJsonSchema

from graph.values import OnApproval, Value

MOST_SECONDS = 24 * 3600

STEP_WORD = re.compile(r"(?<![$\\])\{(files|tests)\}")
"""What is filled in in `test_step`. `${files}` is the shell's own, and so is `\\{files}`."""

_OTHER_WORD = re.compile(r"(?<![$\\@#%])\{(?!(?:files|tests)\})[A-Za-z_]\w*\}", re.ASCII)
"""A `{word}` that nobody fills in. `@{u}` is git's, `#{x}` Ruby's, `%{http_code}` curl's."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_DURATION = re.compile(r"(?:([0-9]{1,4})h)?(?:([0-9]{1,5})m)?(?:([0-9]{1,6})s)?")
_IMAGE = re.compile(r"[A-Za-z0-9][\w.:/@-]{0,254}", re.ASCII)
_MODEL = re.compile(r"[A-Za-z0-9][\w./:@+-]{0,99}", re.ASCII)
_SERVICE = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


# What a value has to be. Each raises ValueError with the rest of a sentence that begins with the key.


def _clean(value: str) -> str:
    if _CONTROL.search(value):
        raise ValueError("must hold no NUL and no other control characters but tabs and line breaks")
    return value


def _script(value: str) -> str:
    if not value.strip():
        raise ValueError("must be a command, and is empty")
    return _clean(value)


def _check(value: str) -> str:
    if value and not value.strip():
        raise ValueError('must be a command, or "" to turn this check off')
    return _clean(value)


def _whole_check(value: str) -> str:
    if found := STEP_WORD.search(value):
        raise ValueError(f"{found[0]} is filled in in test_step only")
    return _check(value)


def _step_check(value: str) -> str:
    if found := _OTHER_WORD.search(value):
        word = found[0] if len(found[0]) <= 40 else f"{found[0][:38]}…}}"
        raise ValueError(
            f"{word} is not filled in: only {{files}} and {{tests}} are. "
            "Braces that the shell shall see need a space inside or a \\ before them"
        )
    return _check(value)


def _glob(value: str) -> str:
    """Whatever a matcher could take in two ways, or would skip without a word, is refused."""
    if value.startswith("/"):
        raise ValueError("must not begin with /: it counts from the repository's root")
    if any(part in ("", ".", "..") for part in value.removesuffix("/").split("/")):
        raise ValueError("must be a path below the repository's root, without empty parts, . and ..")
    if value[0] in "!#":
        raise ValueError(f"must not begin with {value[0]}: a pattern can add paths and take none away")
    if value != value.strip() or _CONTROL.search(value) or re.search(r"[\[\]\\\t\n]", value) or len(value) > 200:
        raise ValueError(
            "must be at most 200 characters, with *, ** and ? and without [, ], \\, line breaks or spaces at its ends"
        )
    return value


def _service_name(value: str) -> str:
    if not _SERVICE.fullmatch(value):
        raise ValueError("a service's name has at most 32 lower-case letters, digits and dashes, and no dash in front")
    return value


def _image(value: str) -> str:
    # It becomes an argument of the engine: one with a dash in front would be an option.
    if value and not _IMAGE.fullmatch(value):
        raise ValueError("must be the name of an image, such as python:3.12")
    return value


def _model(value: str) -> str:
    if not _MODEL.fullmatch(value):
        raise ValueError("must be the name of a model, such as gpt-5; leave the key out for the installation's")
    return value


def _ready_within(value: float) -> float:
    if not 0 < value <= 600:
        raise ValueError("must be a number of seconds above 0 and at most 600")
    return value


def _seconds(value: object) -> float:
    """Seconds of a number or of a text such as `1h30m`."""
    seconds = 0.0
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value) if 0 < value <= MOST_SECONDS else 0.0
    elif isinstance(value, str) and (found := _DURATION.fullmatch(value)):
        hours, minutes, rest = (int(part or 0) for part in found.groups())
        seconds = hours * 3600.0 + minutes * 60 + rest
    if not 0 < seconds <= MOST_SECONDS:
        raise ValueError('must be a number of seconds such as 90, or a text such as "90s", "40m" or "1h30m", up to 24h')
    return seconds


# Strict in each text, not in the model: a checkpoint gives tuples back as lists.
Text = Annotated[str, Strict()]
Flag = Annotated[bool, Strict()]
Script = Annotated[Text, AfterValidator(_script)]
Check = Annotated[Text, AfterValidator(_whole_check)]
StepCheck = Annotated[Text, AfterValidator(_step_check)]
Glob = Annotated[Text, AfterValidator(_glob)]
ServiceName = Annotated[Text, AfterValidator(_service_name)]
Image = Annotated[Text, AfterValidator(_image)]
ModelName = Annotated[Text, AfterValidator(_model)]
Wait = Annotated[float, Strict(), AfterValidator(_ready_within)]
Duration = Annotated[float, BeforeValidator(_seconds), WithJsonSchema({"type": "duration"})]


class Setup(Value):
    """What is run once, before anything else, in a fresh checkout."""

    commands: Annotated[tuple[Script, ...], Field(max_length=20)] | None = Field(
        default=None,
        description="Commands that install what the repository needs, in this order, at most 20. "
        "Left out: found by the lock files. `[]`: nothing is installed.",
    )
    inputs: tuple[Glob, ...] = Field(
        default=(),
        max_length=100,
        description="Further files, as gitignore patterns, whose content decides whether what was installed still "
        "fits. Lock files count without being named.",
    )


class Service(Value):
    """A program that has to run beside the checks. One table each, at most 8; `<name>` may hold a-z, 0-9 and dashes."""

    name: ServiceName = Field(description="The table's key.")
    start: Script = Field(description="Command that starts it and stays in the foreground.")
    ready: Script = Field(description="Command that ends with 0 as soon as it can be used; it is tried until then.")
    seconds: Wait = Field(default=30, description="Seconds until it has to be ready, at most 600.")


class Checks(Value):
    """The repository's own commands. One that is left out is looked for; `""` turns it off."""

    format: Check | None = Field(default=None, description="Formats the code in place.")
    lint: Check | None = Field(default=None, description="Says what is wrong with the code without running it.")
    types: Check | None = Field(default=None, description="Checks the types.")
    test: Check | None = Field(default=None, description="Runs the whole test suite.")
    test_step: StepCheck | None = Field(
        default=None,
        description="Runs the tests of one step: `{files}` becomes the files that the step changed, `{tests}` the "
        "test files that belong to them.",
    )


class Timeouts(Value):
    """How long things may take, at most 24 hours each. What is left out is the installation's."""

    command_timeout: Duration | None = Field(
        default=None, description="Time that one command may take, of checks and of the agent's where it names none."
    )
    setup_timeout: Duration | None = Field(default=None, description="Time that all of the set-up may take.")
    test_timeout: Duration | None = Field(
        default=None, description="Time that one test run may take, and the most that a command of the agent's may."
    )


class Models(Value):
    """Which models work on this repository. What is left out is the installation's."""

    plan: ModelName | None = Field(default=None, description="Model that plans.")
    implement: ModelName | None = Field(default=None, description="Model that implements.")
    review: ModelName | None = Field(default=None, description="Model that reviews the diff.")


class Project(Value):
    """The whole file. Everything in it may be left out."""

    image: Image = Field(
        default="", description="Container image of the box, for the drivers `docker` and `podman`; others ignore it."
    )
    plan: Literal["ask", "go"] | None = Field(
        default=None, description="`ask` waits for a yes to the plan, `go` does not. A message's own option wins."
    )
    on_approval: OnApproval | None = Field(
        default=None, description="What ✅ does: mark the draft ready, review it by a second identity, or merge it."
    )
    second_person: Flag | None = Field(default=None, description="Refuse the requester's own ✅.")
    protected_paths: tuple[Glob, ...] = Field(
        default=(),
        max_length=100,
        description="Paths that need a person's yes before they leave, as gitignore patterns. "
        "They add to the installation's and take none away.",
    )
    setup: Setup = Field(default=Setup(), description=str(Setup.__doc__))
    services: tuple[Service, ...] = Field(default=(), max_length=8, description=str(Service.__doc__))
    checks: Checks = Field(default=Checks(), description=str(Checks.__doc__))
    limits: Timeouts = Field(default=Timeouts(), description=str(Timeouts.__doc__))
    models: Models = Field(default=Models(), description=str(Models.__doc__))


TABLES: dict[str, type[Value]] = {
    "setup": Setup,
    "services": Service,
    "checks": Checks,
    "limits": Timeouts,
    "models": Models,
}
