"""How the command line is called: the options that commands share, and the name that it goes by here."""

from __future__ import annotations

import functools
import re
import shlex
import shutil
import sys
from pathlib import Path, PurePath
from typing import Annotated

import typer

from bot.commands import OPTIONS

NAME = "threadwright"

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout; all else goes to stderr.")]
Repo = Annotated[
    str, typer.Option("--repo", metavar="PATH-or-URL", help="The repository: a path, a URL or owner/name.")
]
Branch = Annotated[str, typer.Option("--branch", help=OPTIONS[1].help)]
ModelName = Annotated[str, typer.Option("--model", help=OPTIONS[2].help)]
PlanMode = Annotated[str, typer.Option("--plan", metavar="ask|go", help=OPTIONS[3].help)]
Budget = Annotated[str, typer.Option("--budget", metavar="USD", help=OPTIONS[4].help)]
WorkTime = Annotated[str, typer.Option("--time", metavar="20m", help=OPTIONS[5].help)]
Approve = Annotated[bool, typer.Option("--approve", help="Approve the result, and wait for what that promises.")]


def called(argument: str, interpreter: str, folder: Path, *, on_path: bool) -> str:
    """What to type to call this program again from `folder`. `argument`: the name it was started under.

    `on_path`: whether its plain name would be found.
    """
    if on_path:
        return NAME
    if PurePath(argument).name == "__main__.py":
        return f"{_shortened(interpreter, folder)} -m {shlex.quote(PurePath(argument).parent.name)}"
    return _shortened(argument, folder)


def _shortened(program: str, folder: Path) -> str:
    path = folder / program
    if folder == Path(folder.anchor) or not path.is_relative_to(folder):
        return shlex.quote(str(path))
    inside = str(path.relative_to(folder))
    return shlex.quote(inside if "/" in inside else f"./{inside}")


# In our sentences a command stands in backticks, alone on an indented line, or behind "Usage:".
_HINT = re.compile(rf"(?:(?<=`)|(?<=^  )|(?<=^Usage: )){NAME}(?= )", re.MULTILINE)


def naming(words: str, command: str) -> str:
    """Words of ours, with the commands that they name as they can be typed."""
    return _HINT.sub(lambda _: command, words)


@functools.cache
def command_name() -> str:
    return called(sys.argv[0], sys.executable, Path.cwd(), on_path=shutil.which(NAME) is not None)


def as_called(words: str) -> str:
    """`naming`, for this process."""
    return naming(words, command_name())
