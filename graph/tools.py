"""The tools that the model has, and what each does in the box.

`TOOLS` is the same list of the same bytes in every call: providers cache it with the system prompt.
"""

from __future__ import annotations

import posixpath
import shlex
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from graph.errors import BadInput
from graph.ports import Box, Rules
from graph.project import Timeouts
from graph.prompting import clipped
from graph.values import Outcome, Plan, Step

OUTPUT = 16_000
"""Characters of a tool's output that reach the model."""
LONGEST_PLAN = 12
"""Steps. Review adds up to three more, and a plan holds twenty."""


class Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ListFiles(Arguments):
    """List files, ignored ones left out."""

    path: str = ""


class Search(Arguments):
    """Search files with a Perl regular expression."""

    pattern: str = Field(min_length=1)
    path: str = ""


class ReadFile(Arguments):
    """Read lines of a text file."""

    path: str
    start: int = Field(1, ge=1)
    lines: int = Field(400, ge=1, le=2000)


class EditFile(Arguments):
    """Replace `old`, which must occur exactly once, by `new`."""

    path: str
    old: str = Field(min_length=1)
    new: str


class WriteFile(Arguments):
    """Create or replace a whole file."""

    path: str
    content: str


class DeleteFile(Arguments):
    """Delete a file."""

    path: str


class Run(Arguments):
    """Run a shell command in the checkout."""

    command: str = Field(min_length=1)
    seconds: int = Field(120, ge=1, le=600)


class PlannedStep(Arguments):
    title: str = Field(min_length=1, max_length=72)
    detail: str = ""
    criteria: list[str] = []


class ProposePlan(Arguments):
    """Propose the plan. title: of the pull request."""

    title: str = Field(min_length=1, max_length=72)
    summary: str = ""
    steps: list[PlannedStep] = Field(min_length=1, max_length=LONGEST_PLAN)
    assumptions: list[str] = []

    def plan(self) -> Plan:
        steps = tuple(Step(title=s.title, detail=s.detail, criteria=tuple(s.criteria)) for s in self.steps)
        return Plan(title=self.title, summary=self.summary, steps=steps, assumptions=tuple(self.assumptions))


class AskedQuestion(Arguments):
    question: str = Field(min_length=1)
    suggestions: list[str] = Field([], max_length=4)
    assumption: str = Field(min_length=1)


class AskPerson(Arguments):
    """Ask people; the task waits for the answer."""

    questions: list[AskedQuestion] = Field(min_length=1, max_length=3)


class Answer(Arguments):
    """Answer when nothing is to be changed."""

    text: str = Field(min_length=1)


class SetUp(Arguments):
    """Install packages again, after you changed a manifest."""


class StepDone(Arguments):
    """The step is done: check and commit it."""

    summary: str = ""


MODELS: dict[str, type[Arguments]] = {
    "list_files": ListFiles,
    "search": Search,
    "read_file": ReadFile,
    "edit_file": EditFile,
    "write_file": WriteFile,
    "delete_file": DeleteFile,
    "run": Run,
    "setup": SetUp,
    "propose_plan": ProposePlan,
    "ask_person": AskPerson,
    "answer": Answer,
    "step_done": StepDone,
}
CONTROL = frozenset({"propose_plan", "ask_person", "answer", "step_done"})
"""Called alone; the flow acts on them, not the box."""
WRITING = frozenset({"edit_file", "write_file", "delete_file"})
"""Refused while planning."""
ONCE = WRITING | {"run"}
"""Not repeated after a crash: nobody knows what the first time did."""


def _slim(schema: Any, shared: dict[str, Any]) -> Any:
    """pydantic's schema without titles and references: a third of the tokens, and servers differ over references."""
    if isinstance(schema, list):
        return [_slim(item, shared) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _slim(shared[schema["$ref"].rpartition("/")[2]], shared)
    slim = {}
    for key, value in schema.items():
        if key in ("$defs", "title", "additionalProperties") and not isinstance(value, dict):
            continue
        if key == "properties":
            slim[key] = {name: _slim(item, shared) for name, item in value.items()}
        elif key != "$defs":
            slim[key] = _slim(value, shared)
    return slim


def _tool(name: str, model: type[Arguments]) -> dict[str, Any]:
    schema = model.model_json_schema()
    parameters = _slim(schema, schema.get("$defs", {}))
    description = parameters.pop("description")
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


TOOLS: list[dict[str, Any]] = [_tool(name, model) for name, model in MODELS.items()]


def parse(name: str, arguments: dict[str, Any]) -> Arguments:
    """Raises BadInput with what is wrong, in words for the model."""
    model = MODELS.get(name)
    if model is None:
        raise BadInput(f"There is no tool {name!r}. The tools are: {', '.join(MODELS)}.")
    try:
        return model.model_validate(arguments)
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_context=False, include_input=False)
        lines = [f"{'.'.join(map(str, error['loc'])) or 'arguments'}: {error['msg']}" for error in errors[:5]]
        raise BadInput(f"The arguments of {name} do not fit. {'; '.join(lines)}.") from exc


def act(arguments: Arguments, box: Box, rules: Rules, limits: Timeouts | None = None) -> tuple[str, Outcome | None]:
    """Do what the call says; gives the text for the model and, of `run`, the outcome. `limits`: the repository's own.

    Raises BadInput (for the model to read) and SandboxFailed.
    """
    match arguments:
        case ListFiles():
            return _list(arguments, box), None
        case Search():
            return _search(arguments, box), None
        case ReadFile():
            return _read(arguments, box), None
        case EditFile():
            return _edit(arguments, box), None
        case WriteFile():
            path = _inside(arguments.path)
            box.write(path, arguments.content.encode("utf-8", "surrogateescape"))
            return f"Wrote {path}.", None
        case DeleteFile():
            return _delete(arguments, box), None
        case Run():
            outcome = box.run(arguments.command, timeout=_seconds(arguments, rules, limits or Timeouts()))
            return said(outcome), outcome
    raise BadInput(f"{type(arguments).__name__} is not done in the box.")


def _seconds(arguments: Run, rules: Rules, limits: Timeouts) -> float:
    """A command may be a test run: that is the most. The time of any command holds where the model names none."""
    named = "seconds" in arguments.model_fields_set or not limits.command_timeout
    wanted = arguments.seconds if named else limits.command_timeout
    return min(float(wanted or arguments.seconds), limits.test_timeout or rules.test_seconds)


def said(outcome: Outcome, limit: int = OUTPUT) -> str:
    """An outcome in words for the model."""
    end = f"exit code {outcome.exit}" if outcome.ended == "exit" else f"ended by {outcome.ended}"
    return f"{end} after {outcome.seconds:.1f} s\n{clipped(outcome.output, limit)}"


def _inside(path: str) -> str:
    """A path of the checkout's files, normalised. The sandbox is the wall; this keeps honest mistakes out of `.git`."""
    clean = posixpath.normpath(path)
    if not path or path.startswith("/") or clean == ".." or clean.startswith("../") or "\0" in path:
        raise BadInput(f"{path!r} is not a path inside the repository; give it relative to the repository's root.")
    if ".git" in clean.split("/"):
        raise BadInput("Git's own folder is not for tools.")
    return clean


def _quoted(path: str) -> str:
    return shlex.quote(_inside(path)) if path not in ("", ".", "./") else "."


def _list(arguments: ListFiles, box: Box) -> str:
    # The pathspec is a name, whatever characters it is made of.
    command = f"git --literal-pathspecs ls-files -co --exclude-standard -- {_quoted(arguments.path)} | sort -u"
    outcome = box.run(command)
    return clipped(outcome.output, OUTPUT) or "There are no files."


def _search(arguments: Search, box: Box) -> str:
    pattern = shlex.quote(arguments.pattern)
    command = f"git --literal-pathspecs grep --untracked -nIP -e {pattern} -- {_quoted(arguments.path)}"
    outcome = box.run(command)
    if outcome.exit == 1:
        return "Nothing matches."
    return clipped(outcome.output, OUTPUT) if outcome.exit == 0 else said(outcome)


def _read(arguments: ReadFile, box: Box) -> str:
    path = _inside(arguments.path)
    data = box.read(path)
    if b"\0" in data[:8000]:
        raise BadInput(f"{path} is a binary file.")
    if not data:
        return f"{path} is empty."
    # Not splitlines(), which also splits at form feeds and at line ends of other scripts.
    lines = data.decode("utf-8", "replace").replace("\r\n", "\n").removesuffix("\n").split("\n")
    part = lines[arguments.start - 1 : arguments.start - 1 + arguments.lines]
    if not part:
        raise BadInput(f"{path} has {len(lines)} lines.")
    last = arguments.start + len(part) - 1
    return f"{path}, lines {arguments.start} to {last} of {len(lines)}:\n{clipped(chr(10).join(part), OUTPUT)}"


def _edit(arguments: EditFile, box: Box) -> str:
    path = _inside(arguments.path)
    data = box.read(path, limit=5_000_000)
    old, new = (text.encode("utf-8", "surrogateescape") for text in (arguments.old, arguments.new))
    if b"\r\n" in data and b"\r\n" not in old:
        # The model was shown the file's lines, and writes plain line ends.
        old, new = old.replace(b"\n", b"\r\n"), new.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    count = data.count(old)
    if count != 1:
        found = "does not occur" if count == 0 else f"occurs {count} times"
        raise BadInput(f"`old` {found} in {path}; it must occur exactly once. Read the file, give more context.")
    box.write(path, data.replace(old, new))
    return f"Edited {path}."


def _delete(arguments: DeleteFile, box: Box) -> str:
    path = _inside(arguments.path)
    outcome = box.run(f"rm -- {shlex.quote(path)}")
    if outcome.exit != 0:
        raise BadInput(f"{path} could not be deleted: {clipped(outcome.output, 500)}")
    return f"Deleted {path}."
