"""Stand-ins for what the agent needs: a scripted model, a box on a plain folder, a journal in memory; git is real."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from gitrepos import ENVIRONMENT, Files, export, git, make_repository
from langchain_core.messages import AIMessage, BaseMessage, SystemMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Command as Resume
from pydantic import BaseModel

from graph.errors import BadInput, SandboxFailed
from graph.flow import RECURSION_LIMIT, build_flow
from graph.messages import illegal_order
from graph.ports import Box, Halt, Ports, Rules, TreePack, Workspace
from graph.state import (
    SCHEMA,
    STATE_TYPES,
    Brief,
    CheckResult,
    Heard,
    Limits,
    Outcome,
    Person,
    PullRequest,
    Repository,
    TaskState,
    Usage,
)
from integrations.git import GitWorkspaces
from integrations.localforge import LocalForge

ANN = Person(id="console:local:ann", name="Ann")
BEN = Person(id="console:local:ben", name="Ben")
ONE_CALL = Usage(calls=1, input_tokens=100, output_tokens=10, usd=0.01, seconds=1.0)
RULES = Rules(limits=Limits())
START = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


def call(name: str, /, **arguments: Any) -> AIMessage:
    return calls((name, arguments))


def calls(*pairs: tuple[str, dict[str, Any]]) -> AIMessage:
    made = [
        {"name": name, "args": args, "id": f"call_{i}", "type": "tool_call"} for i, (name, args) in enumerate(pairs)
    ]
    return AIMessage("", tool_calls=made)


def plan_call(*titles: str, **more: Any) -> AIMessage:
    steps = [{"title": title, "criteria": ["it works"]} for title in titles]
    return call("propose_plan", title="Mend the sum", summary="The sum is mended.", steps=steps, **more)


Reply = AIMessage | Exception | Callable[[Sequence[BaseMessage]], AIMessage]


@dataclass
class ScriptedModel:
    """Answers by the place in the conversation, so that a call made again gets the same answer.

    Refuses, like a provider, a conversation whose messages are in no legal order.
    """

    coder: Sequence[Reply] = ()
    triage: BaseModel | dict[str, Any] = field(default_factory=lambda: {"kind": "task"})
    reviews: Sequence[dict[str, Any] | Exception] = ()
    usage: Usage = ONE_CALL
    seen: list[tuple[str, list[BaseMessage]]] = field(default_factory=list)
    tool_lists: list[Any] = field(default_factory=list)

    def answer(
        self, role: str, messages: Sequence[BaseMessage], tools: Sequence[dict[str, Any]], *, model: str = ""
    ) -> tuple[AIMessage, Usage]:
        self._look(role, messages)
        self.tool_lists.append(tools)
        place = sum(isinstance(message, AIMessage) for message in messages)
        assert place < len(self.coder), f"the script has {len(self.coder)} answers; asked: {messages[-1].text[-600:]}"
        reply = self.coder[place]
        if isinstance(reply, Exception):
            raise reply
        answer = reply if isinstance(reply, AIMessage) else reply(messages)
        for made in answer.tool_calls:
            made["id"] = f"call_{place}_{str(made['id']).rpartition('_')[2]}"
        return answer.model_copy(deep=True), self.usage

    def decide(
        self, role: str, messages: Sequence[BaseMessage], into: type[Any], *, model: str = ""
    ) -> tuple[Any, Usage]:
        self._look(role, messages)
        if role == "triage":
            value: Any = self.triage
        else:
            place = sum(1 for seen, _ in self.seen if seen == role) - 1
            value = self.reviews[place] if place < len(self.reviews) else {"summary": "Fine."}
        if isinstance(value, Exception):
            raise value
        return into.model_validate(value), self.usage

    def _look(self, role: str, messages: Sequence[BaseMessage]) -> None:
        wrong = illegal_order(messages)
        assert not wrong, wrong
        assert isinstance(messages[0], SystemMessage)
        self.seen.append((role, list(messages)))

    def last(self, role: str) -> list[BaseMessage]:
        return next(messages for seen, messages in reversed(self.seen) if seen == role)

    def texts(self, role: str) -> str:
        """Everything that was in the last request of that role."""
        return "\n".join(message.text for message in self.last(role))


class FakeBox:
    """A box on a plain folder: real git and a real shell, no walls."""

    def __init__(self, checkout: Path, mirror: Path, *, on_run: Callable[[str], None] | None = None) -> None:
        self.checkout, self.mirror, self.on_run = checkout, mirror, on_run
        self.commands: list[str] = []
        self.services: dict[str, str] = {}

    @property
    def scratch(self) -> str:
        folder = self.checkout.with_name("scratch")
        folder.mkdir(exist_ok=True)
        return str(folder)

    def run(
        self,
        command: str,
        *,
        timeout: float | None = None,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
    ) -> Outcome:
        self.commands.append(command)
        if self.on_run:
            self.on_run(command)
        path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
        try:
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=self.checkout,
                env={**ENVIRONMENT, "PATH": path, "HOME": "/tmp", **(env or {})},
                input=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as exc:
            output = (exc.stdout or b"").decode(errors="replace")
            return Outcome(command=command, exit=None, seconds=timeout or 0, output=output, ended="timeout")
        return Outcome(command=command, exit=done.returncode, seconds=0.5, output=done.stdout.decode(errors="replace"))

    def serve(self, name: str, command: str) -> None:
        self.services.setdefault(name, command)

    def served(self, name: str) -> Outcome | None:
        if name not in self.services:
            raise BadInput(f"no service {name!r} was started")
        return None

    def left(self, name: str, *, limit: int = 16 << 20) -> bytes | None:
        file = Path(self.scratch) / name
        return file.read_bytes() if file.is_file() and file.stat().st_size <= limit else None

    def read(self, path: str, *, limit: int = 1_000_000) -> bytes:
        file = self.checkout / path
        if not file.is_file():
            raise BadInput(f"there is no file '{path}'")
        return file.read_bytes()[:limit]

    def write(self, path: str, data: bytes) -> None:
        file = self.checkout / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)

    def export(self, base: str) -> TreePack:
        return export(self.checkout, base)

    def reset(self, commit: str) -> None:
        git(self.checkout, "fetch", "-q", str(self.mirror), commit)
        git(self.checkout, "checkout", "-q", "-f", "--detach", commit)
        git(self.checkout, "clean", "-ffdq")

    def changed(self, base: str) -> list[str]:
        names = git(self.checkout, "diff", "--name-only", "-z", "--no-renames", base) + "\0"
        names += git(self.checkout, "ls-files", "-z", "--others", "--exclude-standard")
        return sorted({name for name in names.split("\0") if name})

    def close(self) -> None:
        pass


class FakeSandbox:
    def __init__(self) -> None:
        self.boxes: dict[Path, FakeBox] = {}
        self.on_run: Callable[[str], None] | None = None

    def open(self, workspace: Workspace) -> Box:
        checkout = workspace.root / "checkout"
        if not checkout.exists():
            git(workspace.root, "clone", "-q", "--no-hardlinks", "--no-checkout", str(workspace.mirror), str(checkout))
            git(checkout, "checkout", "-q", "--detach", workspace.commit)
        if workspace.root not in self.boxes:
            self.boxes[workspace.root] = FakeBox(checkout, workspace.mirror, on_run=self.on_run)
        return self.boxes[workspace.root]


@dataclass
class MemoryJournal:
    effects: dict[str, str] = field(default_factory=dict)
    notes: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def begin(self, key: str, what: str) -> str | None:
        before = self.effects.get(key)
        self.effects.setdefault(key, "")
        return before

    def end(self, key: str, result: str) -> None:
        self.effects[key] = result

    def note(self, kind: str, **fields: Any) -> None:
        self.notes.append((kind, fields))

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.notes]


class NoInstalls:
    """A machine on which nothing can be installed; digests are like the real ones."""

    def digest(self, repository: Repository, facts: str) -> str:
        return hashlib.sha256(f"{repository.url}\0{facts}".encode()).hexdigest()

    def has(self, name: str) -> bool:
        return False

    def place(self, name: str) -> Path:
        raise SandboxFailed(f"nothing is installed under {name}")

    def unavailable(self, *, network: bool) -> str:
        return "nothing can be installed here."

    def phase(self, workspace: Workspace, *, note: Callable[..., None], go: bool) -> Any:
        raise AssertionError("a set-up where there can be none")


@dataclass
class MemoryBaselines:
    kept: dict[str, CheckResult] = field(default_factory=dict)

    def find(self, key: str) -> CheckResult | None:
        return self.kept.get(key)

    def keep(self, key: str, result: CheckResult) -> None:
        self.kept[key] = result


class ReadableForge(LocalForge):
    """The local forge, which also tells what was written into a pull request."""

    body = ""

    def propose(self, *args: Any, **named: Any) -> PullRequest:
        pull = super().propose(*args, **named)
        self.body = args[5]
        return pull


@dataclass
class Bench:
    """One task in one repository, from its words to its end; every part real but model, sandbox and store."""

    folder: Path
    files: Files
    model: ScriptedModel
    brief: dict[str, Any] = field(default_factory=dict)
    rules: Rules = RULES
    sandbox: FakeSandbox = field(default_factory=FakeSandbox)
    journal: MemoryJournal = field(default_factory=MemoryJournal)
    installs: Any = field(default_factory=NoInstalls)
    baselines: MemoryBaselines = field(default_factory=MemoryBaselines)
    halt: Halt = field(default_factory=Halt)
    clock: datetime = START

    def __post_init__(self) -> None:
        self.origin = make_repository(self.folder / "origin" / "sample.git", self.files)
        self.repository = Repository(name="sample", url=self.origin.as_uri(), rule="the option")
        self.workspaces = GitWorkspaces(self.folder / "home")
        self.forge = ReadableForge(self.folder / "origin")
        self.ports = Ports(
            model=self.model,
            workspaces=self.workspaces,
            sandbox=self.sandbox,
            forge=self.forge,
            journal=self.journal,
            installs=self.installs,
            baselines=self.baselines,
            rules=self.rules,
            halt=self.halt,
            now=self._now,
        )
        # Strict: a value that is not on the allow-list comes back as a dict, as from Redis.
        serde = JsonPlusSerializer(allowed_msgpack_modules=[(t.__module__, t.__name__) for t in STATE_TYPES])
        self.flow = build_flow(InMemorySaver(serde=serde))
        self.config: Any = {"configurable": {"thread_id": "tw-test"}, "recursion_limit": RECURSION_LIMIT}

    def _now(self) -> datetime:
        self.clock += timedelta(seconds=1)
        return self.clock

    def start(self, text: str = "Mend the sum") -> TaskState:
        fields = {"id": "tw-test", "text": text, "requester": ANN, "created": START, "repository": self.repository}
        return self.send({"schema": SCHEMA, "brief": Brief(**{**fields, **self.brief})})

    def resume(self, *values: Any, **update: Any) -> TaskState:
        """Answer the pending interrupt, as a turn does."""
        (pending,) = self.flow.get_state(self.config).interrupts
        return self.send(Resume(resume={pending.id: list(values)}, update=update or None))

    def hear(self, *heard: Heard) -> TaskState:
        return self.send(Resume(update={"heard": list(heard), "taken": [item.id for item in heard]}))

    def send(self, payload: Any) -> TaskState:
        for _ in self.steps(payload):
            pass
        return self.state

    def steps(self, payload: Any) -> Iterator[TaskState]:
        """The state after each superstep; leave the loop to break the turn off there."""
        for state in self.flow.stream(
            payload, self.config, context=self.ports, durability="sync", stream_mode="values"
        ):
            if "__interrupt__" not in state:
                yield state

    @property
    def state(self) -> TaskState:
        return self.flow.get_state(self.config).values

    @property
    def waits(self) -> Any:
        """What the task waits for: a Question, a Watching, or None."""
        interrupts = self.flow.get_state(self.config).interrupts
        return interrupts[0].value if interrupts else None

    @property
    def waiting_at(self) -> tuple[str, ...]:
        return self.flow.get_state(self.config).next

    @property
    def box(self) -> FakeBox:
        (box,) = self.sandbox.boxes.values()
        return box

    def new_worker(self) -> None:
        """The worker died: a new one has the checkpoints and the journal, and opens its boxes anew."""
        self.sandbox.boxes.clear()
        self.halt = Halt()
        self.ports = replace(self.ports, halt=self.halt)

    def log(self, branch: str = "threadwright/tw-test") -> list[str]:
        return git(self.origin, "log", "--format=%s", branch).splitlines()

    def file(self, path: str, branch: str = "threadwright/tw-test") -> str:
        return git(self.origin, "show", f"{branch}:{path}")

    def branches(self) -> list[str]:
        return git(self.origin, "for-each-ref", "--format=%(refname:short)", "refs/heads").splitlines()
