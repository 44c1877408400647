"""README tells the truth: its tables are the code's, its commands exist, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

from bot.__main__ import app
from bot.options import OPTIONS
from graph.projectfile import EXAMPLE, parse, reference
from jobs.settings import Settings, markdown_table

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
USAGE_ERROR: type[Exception] = typer.BadParameter.__bases__[0]


def settings_table(readme: str) -> str:
    return readme.split("<!-- settings -->")[1].strip() if readme.count("<!-- settings -->") == 2 else ""


def command_lines(readme: str) -> list[str]:
    """What a reader would type: the lines of the `sh` blocks."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def wrong(line: str) -> str:
    """Why a line cannot work; empty if nothing is known against it."""
    words = shlex.split(line)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        if trouble := unknown_setting(words.pop(0)):
            return trouble
    match words:
        case ["export", *settings]:
            return next(filter(None, map(unknown_setting, settings)), "")
        case ["make", *targets]:
            known = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            return "" if targets and set(targets) <= set(known) else f"{line}: no such target"
        case [".venv/bin/threadwright", *arguments]:
            return wrong_arguments(arguments)
        case ["docker", "build", *_]:
            return "" if (ROOT / "Dockerfile").is_file() else "no Dockerfile"
        case ["docker", "run", *rest] if "threadwright" in rest:
            image = rest.index("threadwright")
            return wrong_arguments(rest[image + 2 :]) if rest[image + 1] == "threadwright" else "no command"
    return f"{line}: nothing checks that this works"


def unknown_setting(text: str) -> str:
    name = text.partition("=")[0]
    return "" if name.lower() in Settings.model_fields else f"{name} is no setting"


def commands() -> dict[str, Any]:
    return dict(get_command(app).commands)  # type: ignore[attr-defined]


def wrong_arguments(arguments: list[str]) -> str:
    command = commands().get(arguments[0])
    if command is None:
        return f"threadwright has no command {arguments[0]}"
    try:
        command.make_context(arguments[0], arguments[1:])
    except USAGE_ERROR as exc:
        return f"{arguments}: {exc}"
    return ""


def folders_in_the_picture(readme: str) -> set[str]:
    drawing = re.search(r"^```mermaid\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    return set(re.findall(r"\b([a-z]+)/", drawing[1].replace("<br>", " "))) if drawing else set()


def dead_links(readme: str) -> list[str]:
    targets = re.findall(r"\]\(([^)\s]+)\)", readme)
    return [t for t in targets if "://" not in t and not (ROOT / t.partition("#")[0]).exists()]


def mentioned(readme: str) -> set[str]:
    return set(re.findall(r"`threadwright ([a-z]+)\b", readme))


def test_the_table_of_settings_is_the_models() -> None:
    assert settings_table(README) == markdown_table()


def test_the_check_of_the_settings_would_see_one_that_is_missing() -> None:
    table = f"<!-- settings -->\n{markdown_table()}\n<!-- settings -->"
    assert settings_table(table) == markdown_table()
    assert settings_table(re.sub(r".*`MODEL_PLAN`.*\n", "", table)) != markdown_table()


def project_tables(readme: str) -> str:
    return readme.split("<!-- project -->")[1].strip() if readme.count("<!-- project -->") == 2 else ""


def test_every_key_of_the_repositorys_file_is_explained_with_an_example() -> None:
    assert project_tables(README) == reference().strip()
    assert f"```toml\n{EXAMPLE.strip()}\n```" in README
    assert project_tables(README.replace("<!-- project -->", "", 1)) != reference().strip()


def test_every_piece_of_the_repositorys_file_that_is_shown_can_be_read() -> None:
    blocks = re.findall(r"^```toml\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 2
    for block in blocks:
        parse(block)


def test_every_command_that_is_shown_exists_with_its_options() -> None:
    lines = command_lines(README)
    assert len(lines) >= 10
    assert [trouble for trouble in map(wrong, lines) if trouble] == []
    assert mentioned(README) <= set(commands())


@pytest.mark.parametrize(
    "line",
    [
        "make coffee",
        ".venv/bin/threadwright brew",
        '.venv/bin/threadwright run --milk "a task"',
        ".venv/bin/threadwright run",
        "export OPENAI_KEY=x",
        "OPENAI_KEY=x make demo",
        "docker run threadwright threadwright brew",
        "threadwright status",
    ],
)
def test_the_check_of_the_commands_would_see(line: str) -> None:
    assert wrong(line)


def test_every_option_of_a_message_is_explained() -> None:
    for option in OPTIONS:
        form = f"{option.name}={option.form}".replace("|", "\\|")
        assert f"| `{form}` | {option.help} |" in README


def test_the_picture_of_the_architecture_names_the_packages() -> None:
    assert folders_in_the_picture(README) == {"bot", "graph", "integrations", "jobs"}
    for folder in folders_in_the_picture(README):
        assert (ROOT / folder / "__init__.py").is_file()


def test_links_and_named_sections_lead_somewhere() -> None:
    assert dead_links(README) == []
    assert dead_links("[x](nowhere.md)") == ["nowhere.md"]
    # `doctor` and the Dockerfile send people there.
    assert "\n## When the sandbox does not start\n" in README


def test_readme_begins_with_a_picture_of_a_run_that_refers_to_nothing_outside() -> None:
    link = re.search(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert link is not None
    assert link.start() < 40
    drawn = (ROOT / link[1]).read_text()
    shown = drawn.replace("&#160;", " ")
    for part in ("a script on loopback", "Question", "exit 1", "review, round 1: 1 finding", "Receipts:", "Merged"):
        assert part in shown
    assert re.findall(r"(?:https?|file)://(?!www\.w3\.org/2000/svg)", drawn) == []
    assert "/tmp" not in drawn
    assert drawn.count("clip-path=") > 50
