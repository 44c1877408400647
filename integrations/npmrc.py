"""npm's registries and their credentials, as npm itself would read them. pnpm and yarn 1 read the same files."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from integrations.indexsurvey import UNUSABLE, Survey, basic, place_of

_SCOPED = re.compile(r"(//[^/]+.*?)/?:(_authToken|_auth|username|_password|certfile|keyfile)")
_NAMELESS = ("_auth", "_authtoken", "_authToken", "_password")


@dataclass(frozen=True, repr=False)
class _Said:
    value: str
    source: str


def npm(survey: Survey) -> tuple[dict[str, str], dict[str, str]]:
    """Variables, and files for the home folder. Call it last: of an address with two logins, the first stays."""
    options = _options(survey)
    for name, said in options.items():
        off = said.value in ("", "false", "null")
        if name in UNUSABLE and off == (name == "strict-ssl"):
            survey.unusable(said.source, name)
        if name in _NAMELESS:
            survey.ignored.append(f"{said.source}: credentials must name their host, as in //host/:_authToken.")
    registries: dict[str, str] = {}
    for name, said in options.items():
        if name == "registry" or re.fullmatch(r"@[\w.~-]+:registry", name, re.ASCII):
            url = survey.registry(said.source, _known(survey, said))
            if url:
                registries[name] = url
    _credentials(survey, options, list(registries.values()))
    env = {"NPM_CONFIG_REGISTRY": registries["registry"]} if "registry" in registries else {}
    lines = "".join(f"{name}={url}\n" for name, url in registries.items())
    return env, {".npmrc": lines} if lines else {}


def _credentials(survey: Survey, options: Mapping[str, _Said], registries: list[str]) -> None:
    logins: dict[str, dict[str, _Said]] = {}
    for name, said in options.items():
        scoped = _SCOPED.fullmatch(name)
        if scoped and said.value:
            logins.setdefault(scoped[1] + "/", {})[scoped[2]] = said
    bases = {place[0] for url in registries if (place := place_of(url))}
    for scope, login in logins.items():
        source = next(iter(login.values())).source
        if "certfile" in login or "keyfile" in login:
            survey.unusable(source, "certfile")
        # The scope names no scheme: it is that of the registry which it is for.
        places = [place for scheme in ("https:", "http:") if (place := place_of(scheme + scope)) and place[0] in bases]
        header = _header(survey, login) if places else ""
        if not places:
            survey.ignored.append(f"{source}: no registry of that host is configured, so it is not used.")
        for place in places:
            if header:
                survey.credential(source, "".join(place), header)


def _header(survey: Survey, login: Mapping[str, _Said]) -> str:
    """In npm's order. Empty when there is none, or none that can be sent."""
    known = {name: _known(survey, said) for name, said in login.items()}
    if known.get("_authToken"):
        header = f"Bearer {known['_authToken']}"
    elif known.get("_auth"):
        header = f"Basic {known['_auth']}"
    elif known.get("username") and known.get("_password"):
        try:
            header = basic(known["username"], base64.b64decode(known["_password"]).decode(errors="replace"))
        except (binascii.Error, ValueError):
            header = ""
    else:
        return ""
    if not re.fullmatch(r"\w+ [!-~]+", header, re.ASCII):
        survey.ignored.append(f"{next(iter(login.values())).source}: these credentials cannot be sent.")
        return ""
    return header


def _known(survey: Survey, said: _Said) -> str:
    """Empty, and told, when it names a variable that is not set."""
    if "${" not in said.value:
        return said.value
    survey.ignored.append(f"{said.source}: a variable that it names is not set.")
    return ""


def _options(survey: Survey) -> dict[str, _Said]:
    """The environment is over the user's file, which is over the machine's."""
    ours: dict[str, _Said] = {}
    for name, value in survey.env.items():
        if not re.match("npm_config_", name, re.IGNORECASE) or not value:
            continue
        key = name[len("npm_config_") :]
        if not key.startswith("//"):
            key = key[:1].lower() + key[1:].lower().replace("_", "-")
        # The name of the variable may be what a secret was pasted into by mistake.
        ours[key] = _Said(_expanded(value, survey), name if key.isascii() and "=" not in key else "npm_config_")
    chosen = ours.get("userconfig")
    user = _file(survey, Path(chosen.value) if chosen else survey.home / ".npmrc")
    shared = _file(survey, _shared_file(survey, {**user, **ours}))
    return {**shared, **user, **ours}


def _shared_file(survey: Survey, options: Mapping[str, _Said]) -> Path:
    """Where npm looks depends on where node is, which we do not know: without a prefix, in the usual places."""
    if "globalconfig" in options:
        return Path(options["globalconfig"].value)
    prefix = options["prefix"].value if "prefix" in options else survey.env.get("PREFIX", "")
    if prefix.startswith("~/"):
        prefix = str(survey.home / prefix[2:])
    if prefix:
        return Path(prefix) / "etc/npmrc"
    usual = (survey.system.parent / "usr/local/etc/npmrc", survey.system.parent / "usr/etc/npmrc")
    return next((path for path in usual if survey.text(path)), survey.system / "npmrc")


def _file(survey: Survey, path: Path) -> dict[str, _Said]:
    options = {}
    for number, line in enumerate(re.split(r"\r\n?|\n", survey.text(path)), 1):
        if re.match(r"\s*\[[^\]]*\]\s*$", line):
            break  # what stands in a section is no option of npm's
        name, sign, value = line.partition("=")
        if sign and name.strip() and not re.match(r"\s*[;#]", line):
            options[_expanded(_bare(name), survey)] = _Said(_expanded(_bare(value), survey), f"{path}, line {number}")
    return options


def _bare(text: str) -> str:
    """Without quotes, escapes and comments, by the rules of npm's own parser."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        if text[0] == "'":
            return text[1:-1]
        try:
            return str(json.loads(text))
        except (ValueError, RecursionError):
            return text
    return re.sub(r"\\([\\;#])", r"\1", re.split(r"(?<!\\)[;#]", text, maxsplit=1)[0]).strip()


def _expanded(text: str, survey: Survey) -> str:
    """With the variables that are set; `?` after a name takes those that are not for empty."""
    known = {"HOME": str(survey.home), **survey.env}

    def value(match: re.Match[str]) -> str:
        return known.get(match[1], "" if match[2] else match[0])

    return re.sub(r"(?<!\\)\$\{([^${}?]+)(\?)?\}", value, text)
