"""Pull requests of a local repository as files: `<number>.json` for programs, `<number>.md` for people."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from graph.values import Person
from integrations.gitcommand import locked


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Comment(_Record):
    text: str
    at: datetime


class Approved(_Record):
    """An approval of one commit; `revoked` says when it was taken back."""

    sha: str
    by: Person
    at: datetime
    revoked: datetime | None = None


class Pull(_Record):
    number: int
    branch: str
    base: str
    head: str
    """As last seen; while the pull request is open the branch itself decides."""
    title: str
    body: str
    draft: bool
    state: Literal["open", "merged", "closed"] = "open"
    merge_commit: str = ""
    opened: datetime
    comments: list[Comment] = []
    approvals: list[Approved] = []

    def approved(self, sha: str) -> bool:
        return any(approval.sha == sha and approval.revoked is None for approval in self.approvals)


Standing = Literal["", "pending", "green", "red"]
_Found = TypeAdapter(dict[str, Literal["pending", "success", "failure"]])


class Pulls:
    """The pull requests in `folder`. Writers hold `locked()`; readers need not, since files are replaced whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def locked(self) -> Iterator[None]:
        with locked(self._folder / ".lock"):
            yield

    def numbers(self) -> list[int]:
        return sorted(int(path.stem) for path in self._folder.glob("*.json") if path.stem.isdecimal())

    def read(self, number: int) -> Pull | None:
        try:
            return Pull.model_validate_json((self._folder / f"{number}.json").read_bytes())
        except FileNotFoundError:
            return None

    def all(self) -> list[Pull]:
        return [pull for number in self.numbers() if (pull := self.read(number)) is not None]

    def write(self, pull: Pull) -> None:
        self._replace(f"{pull.number}.json", pull.model_dump_json(indent=2) + "\n")
        self._replace(f"{pull.number}.md", _page(pull))

    def page(self, number: int) -> Path:
        """The file that a person can open."""
        return self._folder / f"{number}.md"

    def checks(self, sha: str) -> tuple[bool, Standing]:
        """Whether this repository has checks at all, and how those of that commit stand.

        There are checks where the folder `checks` is: whoever runs them (a hook, a CI) writes `checks/<sha>.json`,
        `{"name": "pending" | "success" | "failure"}`.
        """
        folder = self._folder / "checks"
        if not folder.is_dir():
            return False, ""
        try:
            found = _Found.validate_json((folder / f"{sha}.json").read_bytes())
        except FileNotFoundError:
            return True, "pending"
        except ValidationError:
            # Half written, or not ours: no reason to merge anything.
            return True, "pending"
        if "failure" in found.values():
            return True, "red"
        return True, "green" if found and set(found.values()) == {"success"} else "pending"

    def _replace(self, name: str, text: str) -> None:
        fresh = self._folder / f".{name}.new"
        with fresh.open("w", encoding="utf-8", errors="replace") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._folder / name)


def _page(pull: Pull) -> str:
    state = "draft" if pull.draft and pull.state == "open" else pull.state
    lines = [
        f"# {pull.title} (#{pull.number})",
        "",
        f"{state}: `{pull.branch}` into `{pull.base}`, head `{pull.head[:12]}`",
    ]
    if pull.merge_commit:
        lines.append(f"merged as `{pull.merge_commit[:12]}`")
    for approval in pull.approvals:
        taken_back = f", taken back {approval.revoked:%Y-%m-%d %H:%M} UTC" if approval.revoked else ""
        who = approval.by.name or approval.by.id
        lines.append(f"`{approval.sha[:12]}` approved by {who}, {approval.at:%Y-%m-%d %H:%M} UTC{taken_back}")
    lines += ["", pull.body]
    for comment in pull.comments:
        lines += ["", "---", f"{comment.at:%Y-%m-%d %H:%M} UTC", "", comment.text]
    return "\n".join(lines).rstrip() + "\n"
