"""The package indexes that the operator configured, for commands that may not know the operator's credentials.

pip, uv and npm are read in each tool's own order of precedence. Addresses without credentials go into the box;
credentials stay outside, where the proxy adds them. A secret that is part of an address's path is not seen as one.
"""

from __future__ import annotations

import configparser
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from integrations.indexsurvey import UNUSABLE, Survey
from integrations.npmrc import npm

_STRATEGIES = ("first-index", "unsafe-first-match", "unsafe-best-match")


@dataclass(frozen=True)
class Indexes:
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables for commands in the box."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Files for the home folder in the box, by their path in it."""
    urls: tuple[str, ...] = ()
    """Each index, without credentials."""
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The value of the Authorization header, by how the address begins; the longest that fits is meant."""
    ignored: tuple[str, ...] = ()
    """Sentences on what is configured and cannot be used in the box."""

    @property
    def origins(self) -> tuple[str, ...]:
        """Scheme, host and port of the indexes, as SETUP_HOSTS names them."""
        return tuple(dict.fromkeys("/".join(url.split("/")[:3]) for url in self.urls))


def found(env: Mapping[str, str], home: Path, *, system: Path = Path("/etc")) -> Indexes:
    """What `env` and the files below `home` and `system` say. No broken file is an error: `ignored` names it.

    Where uv has no index, pip's is uv's too: uv itself does not read pip's configuration, but who set an index for
    the one wants it for the other.
    """
    survey = Survey(env, home, system)
    pip = _pip(survey)
    uv = _uv(survey, pip)
    survey.ask_netrc()
    node, files = npm(survey)
    for name in env:
        option = name.lower().replace("_", "-")
        if env[name] and option in ("http-proxy", "https-proxy", "all-proxy", "ssl-cert-file", "ssl-client-cert"):
            survey.unusable(name, option)
    ignored = tuple(dict.fromkeys(survey.ignored))
    return Indexes({**pip, **uv, **node}, files, tuple(survey.urls), survey.credentials, ignored)


def _pip(survey: Survey) -> dict[str, str]:
    options = _pip_options(survey)
    for name in sorted(options.keys() & UNUSABLE.keys()):
        survey.unusable(options[name][1], name)
    value, source = options.get("index-url", ("", ""))
    more, their_source = options.get("extra-index-url", ("", ""))
    variables = {
        "PIP_INDEX_URL": survey.index(source, value.strip()) if value else "",
        "PIP_EXTRA_INDEX_URL": " ".join(filter(None, (survey.index(their_source, url) for url in more.split()))),
    }
    return {name: text for name, text in variables.items() if text}


def _pip_options(survey: Survey) -> dict[str, tuple[str, str]]:
    """Value and source by option. The environment is over [install], which is over [global], whatever the files."""
    parsed = [(path, parser) for path in _pip_files(survey) if (parser := _ini(survey, path))]
    options: dict[str, tuple[str, str]] = {}
    for section in ("global", "install"):
        # An empty value hides that of an earlier file, and is then as good as none.
        here = {
            name.replace("_", "-").removeprefix("--"): (value or "", f"{path}, {name} in [{section}]")
            for path, parser in parsed
            if parser.has_section(section)
            for name, value in parser.items(section)
        }
        options.update({name: said for name, said in here.items() if said[0]})
    for name, value in survey.env.items():
        if name.startswith("PIP_") and value:
            options[name.removeprefix("PIP_").lower().replace("_", "-")] = value, name
    return {name: said for name, said in options.items() if said[0].lower() not in ("0", "false", "no", "off")}


def _pip_files(survey: Survey) -> list[Path]:
    """The one that has the last word last."""
    given = survey.env.get("PIP_CONFIG_FILE", "")
    if given == os.devnull:
        return []
    shared = [folder / "pip/pip.conf" for folder in survey.config_folders()] + [survey.system / "pip.conf"]
    own = [survey.home / ".pip/pip.conf", survey.config_home() / "pip/pip.conf"]
    if not given:
        return shared + own
    # It replaces the user's own files if it exists.
    return [*shared, *([] if os.path.exists(given) else own), Path(given)]  # noqa: PTH110 - Path's may raise


def _ini(survey: Survey, path: Path) -> configparser.RawConfigParser | None:
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(survey.text(path))
    except configparser.ParsingError as exc:
        # Its kinds tell the line in one way or the other.
        several = getattr(exc, "errors", None)
        survey.broken(path, several[0][0] if several else getattr(exc, "lineno", None))
    except (configparser.DuplicateOptionError, configparser.DuplicateSectionError) as exc:
        survey.broken(path, exc.lineno)
    else:
        return parser
    return None


@dataclass(frozen=True, repr=False)
class _UvIndex:
    source: str
    url: str
    name: str = ""
    default: bool = False
    explicit: bool = False
    """Only for packages that a project pins to an index of that name, whose address the project then says itself."""


def _uv(survey: Survey, pip: Mapping[str, str]) -> dict[str, str]:
    files = [(path, table) for path in _uv_files(survey) if (table := _toml(survey, path))]
    default, others, names = "", list[str](), set[str]()
    for index in _uv_indexes(survey, files):
        key = re.sub(r"[^A-Z0-9]", "_", index.name.upper())
        if (key and key in names) or (index.default and default):
            continue
        names.add(key)
        user, password = (survey.env.get(f"UV_INDEX_{key}_{part}") if key else "" for part in ("USERNAME", "PASSWORD"))
        url = survey.index(index.source, index.url, (user or "", password or "") if user or password else None)
        shown = f"{index.name}={url}" if index.name else url
        if index.default and not index.explicit:
            default = shown if url else ""
        elif url and not index.explicit and shown not in others:
            others.append(shown)
    _uv_leftovers(survey, files, names)
    if not default and not others:
        default, others = pip.get("PIP_INDEX_URL", ""), pip.get("PIP_EXTRA_INDEX_URL", "").split()
    strategies = [survey.env.get("UV_INDEX_STRATEGY"), *(table.get("index-strategy") for _, table in files)]
    strategy = next((str(said) for said in strategies if said in _STRATEGIES), "")
    variables = {"UV_DEFAULT_INDEX": default, "UV_INDEX": " ".join(others), "UV_INDEX_STRATEGY": strategy}
    return {name: text for name, text in variables.items() if text}


def _uv_leftovers(survey: Survey, files: list[tuple[Path, dict[str, Any]]], names: set[str]) -> None:
    for path, table in files:
        for name in sorted(table.keys() & UNUSABLE.keys()):
            if table[name]:
                survey.unusable(f"{path}, {name}", name)
    for name, value in survey.env.items():
        option = name.removeprefix("UV_").lower().replace("_", "-")
        if name.startswith("UV_") and option in UNUSABLE and value:
            survey.unusable(name, option)
        secret = re.fullmatch(r"UV_INDEX_(.+)_PASSWORD", name)
        if secret and secret[1] not in names:
            survey.ignored.append(f"{name}: this machine configures no index of that name, so it is not used.")


def _uv_files(survey: Survey) -> list[Path]:
    """The one that has the first word first."""
    if survey.env.get("UV_NO_CONFIG", "").lower() in ("1", "true", "yes", "on", "t", "y"):
        return []
    given = survey.env.get("UV_CONFIG_FILE")
    if given:
        return [Path(given)]
    shared = [*(folder / "uv/uv.toml" for folder in survey.config_folders()), survey.system / "uv/uv.toml"]
    first = next((str(path) for path in shared if os.path.exists(path)), "")  # noqa: PTH110 - Path's may raise
    return [survey.config_home() / "uv/uv.toml", *([Path(first)] if first else [])]


def _toml(survey: Survey, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(survey.text(path))
    except tomllib.TOMLDecodeError as exc:
        # Of its text only the number: the rest may quote the file.
        line = re.search(r"at line (\d+), column \d+\)$", str(exc))
        survey.broken(path, int(line[1]) if line else None)
    except RecursionError:
        survey.broken(path, None)
    return {}


def _uv_indexes(survey: Survey, files: list[tuple[Path, dict[str, Any]]]) -> Iterator[_UvIndex]:
    """In uv's order: whoever comes first is asked first, and the first default is the default."""
    yield from _uv_listed(survey, "UV_DEFAULT_INDEX", default=True)
    yield from _uv_listed(survey, "UV_INDEX")
    yield from _uv_listed(survey, "UV_EXTRA_INDEX_URL")
    yield from _uv_listed(survey, "UV_INDEX_URL", default=True)
    for path, table in files:
        entries = table.get("index")
        for number, entry in enumerate(entries if isinstance(entries, list) else [], 1):
            source = f"{path}, [[index]] number {number}"
            if not isinstance(entry, dict) or not isinstance(entry.get("url"), str):
                survey.ignored.append(f"{source}: it has no address.")
            elif entry.get("format") == "flat":
                survey.unusable(source, "find-links")
            else:
                yield _UvIndex(
                    source, entry["url"], _index_name(entry.get("name")), entry.get("default") is True,
                    entry.get("explicit") is True,
                )  # fmt: skip
    for path, table in files:
        extra = table.get("extra-index-url")
        yield from (
            _UvIndex(f"{path}, extra-index-url", str(url)) for url in (extra if isinstance(extra, list) else [])
        )
    for path, table in files:
        if isinstance(table.get("index-url"), str):
            yield _UvIndex(f"{path}, index-url", table["index-url"], default=True)


def _uv_listed(survey: Survey, variable: str, *, default: bool = False) -> Iterator[_UvIndex]:
    for word in survey.env.get(variable, "").split():
        name, sign, url = word.partition("=")
        # The first = may be one of the address.
        named = bool(sign) and ":" not in name and variable in ("UV_DEFAULT_INDEX", "UV_INDEX")
        yield _UvIndex(variable, url if named else word, _index_name(name) if named else "", default)


def _index_name(name: object) -> str:
    return name if isinstance(name, str) and re.fullmatch(r"[\w.-]+", name, re.ASCII) else ""
