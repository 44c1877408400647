"""Reading `.threadwright.toml`: what is wrong with one, in words and with its line; and the README's tables of keys."""

from __future__ import annotations

import difflib
import json
from typing import Any

from pydantic import ValidationError

from graph.errors import BadInput
from graph.project import TABLES, Project, Service
from graph.tomlplaces import BARE, NAME, KeyPath, Places, bounded, parsed, said
from graph.values import Value

MOST_TOLD = 100
"""Problems in one message."""

EXAMPLE = r'''
image = "registry.example.com/acme/api-checks:7"
plan = "ask"
on_approval = "ready"
second_person = true
protected_paths = ["migrations/**", "LICENSE"]

[setup]
commands = [
    "npm ci",
    "make stubs",
]
inputs = ["proto/**/*.proto"]

[services.cache]
start = "redis-server --port 6379 --save ''"
ready = "redis-cli ping"
seconds = 20

[checks]
format = "npx prettier --write ."
lint = "npx eslint ."
types = ""  # There are none to check.
test = """
npm run build
npm test
"""
test_step = "npx jest {tests}"

[limits]
command_timeout = 90
setup_timeout = "15m"
test_timeout = "1h30m"

[models]
plan = "gpt-5"
implement = "gpt-5-mini"
review = "gpt-5"
'''.lstrip()
"""A whole file, with every key."""


def parse(text: str) -> Project:
    """Raises BadInput, which lists every problem, one a line, with the line of the file that it is on."""
    text = text.removeprefix("\ufeff")
    tokens = bounded(text)
    data = parsed(text)
    places = Places(tokens)
    named, problems = _name_services(data)
    try:
        project = Project.model_validate(data)
    except ValidationError as exc:
        problems += [(_path(error["loc"], named), error["type"], error) for error in exc.errors(include_url=False)]
    else:
        if not problems:
            return project
    raise BadInput(_listed(problems, places))


def _listed(problems: list[Problem], places: Places) -> str:
    problems.sort(key=lambda problem: places.line(problem[0]))
    lines = [
        said(places.line(path), _shown(path), _wrong(path, kind, error)) for path, kind, error in problems[:MOST_TOLD]
    ]
    if len(problems) > MOST_TOLD:
        lines.append(f"{NAME}: and {len(problems) - MOST_TOLD} more")
    return "\n".join(lines)


def reference() -> str:
    """The README's tables of every key, made from the models."""
    parts = ["At the top of the file, before the first table:", _table(Project)]
    for name, model in TABLES.items():
        parts += [f"`{_title(name)}`: {model.__doc__}", _table(model)]
    return "\n\n".join(parts)


def _table(model: type[Value]) -> str:
    rows = ["| Key | Type, default | What it does |", "| --- | --- | --- |"]
    properties = model.model_json_schema()["properties"]
    for key in _keys(model):
        info = model.model_fields[key]
        if key in TABLES and model is Project:
            continue
        words = _type_words(properties[key])
        if info.is_required():
            words += ", required"
        elif info.default not in (None, ""):
            words += f", `{json.dumps(info.default)}`"
        rows.append(f"| `{key}` | {words} | {info.description} |")
    return "\n".join(rows)


def _type_words(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        schema = schema["anyOf"][0]
    if "enum" in schema:
        return " or ".join(f'`"{word}"`' for word in schema["enum"])
    return {
        "string": "text",
        "array": "list of texts",
        "boolean": "`true` or `false`",
        "number": "number",
        "duration": 'seconds, or text such as `"1h30m"`',
    }[schema["type"]]


# What is wrong, in words.

Problem = tuple[KeyPath, str, Any]


def _name_services(data: dict[str, Any]) -> tuple[list[str], list[Problem]]:
    """Make the tables of `data["services"]` a list of services that have their keys as names."""
    tables = data.get("services", {})
    problems: list[Problem] = []
    if not isinstance(tables, dict):
        problems.append((("services",), "model_type", {"input": tables}))
        tables = {}
    for name, table in tables.items():
        if isinstance(table, dict) and "name" in table:
            problems.append((("services", name, "name"), "extra_forbidden", {}))
    data["services"] = [{**t, "name": name} if isinstance(t, dict) else t for name, t in tables.items()]
    return list(tables), problems


def _path(location: KeyPath, services: list[str]) -> KeyPath:
    """Where a value is in the file: there, services have names and no numbers."""
    match location:
        case ("services", int() as number, *rest):
            return ("services", services[number], *(part for part in rest if part != "name"))
    return location


def _wrong(path: KeyPath, kind: str, error: Any) -> str:
    match kind:
        case "extra_forbidden":
            return _unknown(path)
        case "missing":
            return "is missing; a service needs start and ready"
        case "value_error":
            return str(error["ctx"]["error"])
        case "too_long":
            return f"there may be at most {error['ctx']['max_length']}, and there are {error['ctx']['actual_length']}"
        case "literal_error":
            return f"must be {error['ctx']['expected']}".replace("'", '"')
    must = {
        "string_type": "must be text in quotes",
        "bool_type": "must be true or false",
        "float_type": "must be a number of seconds",
        "tuple_type": 'must be a list of texts, such as ["one", "two"]',
        "model_type": "must be tables such as [services.db]" if path == ("services",) else "must be a table",
    }
    return f"{must[kind]}, not {_kind(error['input'])}"


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    kinds = {int: "a number", float: "a number", str: "text", list: "a list", dict: "a table"}
    return kinds.get(type(value), "a date or a time")


def _unknown(path: KeyPath) -> str:
    table, key = (str(path[0]) if len(path) > 1 else ""), str(path[-1])
    keys = _keys(TABLES.get(table, Project))
    where = f"[{_shown(path[:-1])}]" if table else "the file"
    said = f"there is no such key; the keys of {where} are {', '.join(keys)}"
    if (table, key) == ("models", "triage"):
        return f"{said} (triage is done before a repository is known: its model is the installation's MODEL_TRIAGE)"
    if near := difflib.get_close_matches(key[:40], keys, n=1):
        return f"{said} (did you mean {near[0]}?)"
    if table and key in _keys(Project):
        return f"{said} ({key} belongs at the top of the file, before the first table)"
    homes = [_title(name) for name, model in TABLES.items() if name != table and key in _keys(model)]
    return f"{said} ({key} belongs under {homes[0]})" if homes else said


def _keys(model: type[Value]) -> list[str]:
    return [key for key in model.model_fields if (model, key) != (Service, "name")]


def _title(table: str) -> str:
    return "[services.<name>]" if table == "services" else f"[{table}]"


def _shown(path: KeyPath) -> str:
    """A path as it would be written, short and printable; items of a list are counted from 1."""
    parts: list[str] = []
    for part in path:
        if isinstance(part, int):
            parts[-1] += f" item {part + 1}"
        else:
            parts.append(part[:60] if BARE.fullmatch(part) else json.dumps(part[:60]))
    return ".".join(parts)
