"""Prompts and templates (`prompts/*.md`), and the marks around text that is data and gives no orders."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib import resources
from typing import Any

import jinja2


def _load(name: str) -> str | None:
    file = resources.files("graph") / "prompts" / name
    return file.read_text("utf-8") if file.is_file() else None


# Markdown, not HTML: nothing is escaped, and what is rendered is not rendered again.
_TEMPLATES = jinja2.Environment(  # noqa: S701
    loader=jinja2.FunctionLoader(_load),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=False,
)


@lru_cache
def system(role: str) -> str:
    """The system prompt of a role: the same bytes for every task, so that providers can cache it."""
    return render(role)


def render(name: str, /, **values: Any) -> str:
    return _TEMPLATES.get_template(f"{name}.md").render(**values).strip()


def preload() -> None:
    """Compile every template, so that a process forked from this one has them: 3 ms of a turn's first call."""
    for file in (resources.files("graph") / "prompts").iterdir():
        if file.name.endswith(".md"):
            _TEMPLATES.get_template(file.name)


def mark_of(task: str) -> str:
    """The word in the marks around data. Nobody who writes a file knows it."""
    return "data-" + hashlib.sha256(f"threadwright mark {task}".encode()).hexdigest()[:10]


def fenced(task: str, text: str) -> str:
    """`text` between the task's data marks; it cannot end them early."""
    mark = mark_of(task)
    return f"<{mark}>\n{text.replace(mark, 'data')}\n</{mark}>"


def clipped(text: str, limit: int) -> str:
    """At most about `limit` characters of `text`: head and tail, and how much is missing between."""
    if len(text) <= limit:
        return text
    head = limit // 3
    tail = limit - head
    return f"{text[:head]}\n[… {len(text) - limit} characters left out …]\n{text[-tail:]}"
