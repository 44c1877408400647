"""Takes secrets out of text: known token shapes, and the exact values that this installation knows.

Pure functions. A second layer only: the first is that secrets are never near untrusted text.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import quote, quote_plus

SHORTEST_EXACT = 6
"""Exact values with fewer characters are left out: removing them would tear ordinary words apart."""

_LONGEST_PEM = 20_000
_EXACT = "a configured secret"


def _always(_: re.Match[str]) -> bool:
    return True


def _not_an_example(match: re.Match[str]) -> bool:
    return "EXAMPLE" not in match.group(0)


def _is_discord(match: re.Match[str]) -> bool:
    """The first part of a Discord token is its application's id, in base64: other dotted names are not."""
    head = match.group(0).split(".", 1)[0]
    try:
        return base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)).isdigit()
    except (binascii.Error, ValueError):
        return False


def _is_no_placeholder(match: re.Match[str]) -> bool:
    """`user:${PASSWORD}@host`, `user:***@host` and the like hold no secret."""
    secret = match.group("secret")
    return not re.fullmatch(r"\$.*|\{.*\}|%\w+|[*xX.]+|\[.*\]", secret)


@dataclass(frozen=True)
class _Shape:
    kind: str
    needles: tuple[str, ...]
    """Lower case; the pattern is tried only when one of them is in the lower-cased text."""
    pattern: re.Pattern[str]
    certain: bool = True
    """Certain enough to keep a commit back; the others stand in many harmless tests and manuals."""
    is_secret: Callable[[re.Match[str]], bool] = _always


def _shape(
    kind: str,
    needles: str,
    pattern: str,
    *,
    certain: bool = True,
    is_secret: Callable[[re.Match[str]], bool] = _always,
) -> _Shape:
    """Anchored on the left, so that `task-…` is not `sk-…`. A group `secret` narrows down what is removed."""
    return _Shape(kind, tuple(needles.split()), re.compile(rf"(?<![A-Za-z0-9_])(?:{pattern})"), certain, is_secret)


_PEM = (
    r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----(?=[\s\S]{0,300}?[A-Za-z0-9+/=]{40})"
    rf"(?:(?:(?!-----BEGIN)[\s\S]){{0,{_LONGEST_PEM}}}?-----END (?:[A-Z0-9]+ ){{0,3}}PRIVATE KEY(?: BLOCK)?-----"
    r"|[A-Za-z0-9+/=\s\\:,-]*)"
)

_SHAPES = (
    _shape("private key", "private key", _PEM),
    _shape(
        "GitHub token",
        "ghp_ gho_ ghu_ ghr_ ghs_ github_pat_",
        r"gh[pour]_[A-Za-z0-9]{36,255}|ghs_[A-Za-z0-9._-]{35,2000}[A-Za-z0-9_-]|github_pat_[A-Za-z0-9_]{22,255}",
    ),
    _shape(
        "GitLab token",
        "glpat- glptt- gldt- glrt- glcbt- glft- glimt- glagent- gloas- glsoat- glffct-",
        r"gl(?:pat|ptt|dt|rt|cbt|ft|imt|agent|oas|soat|ffct)-[A-Za-z0-9_.-]{19,500}[A-Za-z0-9_-]",
    ),
    _shape(
        "Slack token",
        "xox xapp-",
        r"xox[abcdeoprs](?:\.xox[bp])?-(?=[A-Za-z%/+=_-]{0,60}\d)[A-Za-z0-9%/+=_-]{20,500}|xapp-\d-[A-Za-z0-9-]{20,500}",
    ),
    _shape(
        "Slack webhook",
        "hooks.slack",
        r"https://hooks\.slack(?:-gov)?\.com/(?:services|workflows|triggers)/[A-Za-z0-9+/]{20,200}",
    ),
    _shape(
        "Discord token",
        ".",
        r"(?:Bot[ ])?[MNO][A-Za-z0-9_-]{22,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,45}",
        is_secret=lambda match: _is_discord(re.match(r"(?:Bot )?(.+)", match.group(0)) or match),
    ),
    _shape(
        "Discord webhook",
        "/webhooks/",
        r"https://(?:ptb\.|canary\.)?discord(?:app)?\.com/api/(?:v\d+/)?webhooks/\d{15,22}/[A-Za-z0-9_-]{50,100}",
    ),
    _shape("Anthropic key", "sk-ant-", r"sk-ant-[A-Za-z0-9_-]{24,300}"),
    _shape("OpenRouter key", "sk-or-", r"sk-or-(?:v\d-)?[A-Za-z0-9]{32,200}"),
    _shape(
        "OpenAI key",
        "sk-",
        r"sk-(?:proj|svcacct|admin|None)-[A-Za-z0-9_-]{20,300}|sk-[A-Za-z0-9]{32,100}(?![A-Za-z0-9_-])",
    ),
    _shape(
        "AWS access key",
        "akia asia abia acca",
        r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}(?![A-Za-z0-9])",
        is_secret=_not_an_example,
    ),
    _shape(
        "AWS secret key",
        "secret",
        r"(?i:aws_?secret_?(?:access_?)?key|secret_?access_?key)[\"']?\s{0,5}(?:[:=]|=>)\s{0,5}[\"']?"
        r"(?P<secret>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])",
        is_secret=_not_an_example,
    ),
    _shape(
        "Google key",
        "aiza gocspx- ya29.",
        r"AIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])|GOCSPX-[A-Za-z0-9_-]{28}|ya29\.[A-Za-z0-9_-]{30,2000}",
    ),
    _shape(
        "Stripe key",
        "k_live_ k_test_ whsec_",
        r"[sr]k_(?:live|test)_[A-Za-z0-9]{16,250}|whsec_[A-Za-z0-9+/]{32,100}={0,2}",
    ),
    _shape("npm token", "npm_", r"npm_[A-Za-z0-9]{36}(?![A-Za-z0-9_])"),
    _shape("PyPI token", "pypi-age", r"pypi-AgE[A-Za-z0-9_-]{50,1000}"),
    _shape("Hugging Face token", "hf_", r"hf_[A-Za-z0-9]{34,40}(?![A-Za-z0-9_])"),
    _shape("SendGrid key", "sg.", r"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}"),
    _shape("Telegram token", ":aa", r"\d{8,10}:AA[A-Za-z0-9_-]{33}(?![A-Za-z0-9_-])"),
    _shape(
        "Azure key",
        "accountkey= sharedaccesskey= q~ azdo sig=",
        r"(?:AccountKey|SharedAccessKey)=(?P<secret>[A-Za-z0-9+/]{42,86}={1,2})|[A-Za-z0-9_~.-]{3}\dQ~[A-Za-z0-9_~.-]{31,34}"
        r"|[A-Za-z0-9]{76}AZDO[A-Za-z0-9]{4}(?![A-Za-z0-9])|sig=[A-Za-z0-9%/+]{43,70}(?:%3[Dd]|=)",
    ),
    _shape("Twilio key", "sk", r"SK[0-9a-f]{32}(?![A-Za-z0-9])"),
    _shape(
        "access token",
        "_v1_ shpat_ shpca_ shppa_ shpss_ dckr_pat_ lin_api_ lin_oauth_ hvs. dapi xai- gsk_ age-secret-key-1",
        r"do[opr]_v1_[a-f0-9]{64}|shp(?:at|ca|pa|ss)_[A-Fa-f0-9]{32}|dckr_pat_[A-Za-z0-9_-]{27}|lin_(?:api|oauth)_[A-Za-z0-9]{32,64}"
        r"|hvs\.[A-Za-z0-9_-]{24,200}|dapi[a-f0-9]{32}(?![A-Za-z0-9])|xai-[A-Za-z0-9]{60,100}|gsk_[A-Za-z0-9]{40,80}"
        r"|AGE-SECRET-KEY-1[0-9A-Z]{58}",
    ),
    _shape(
        "JSON web token",
        "eyj",
        r"(?<!-)eyJ[A-Za-z0-9_-]{10,4000}\.eyJ[A-Za-z0-9_-]{10,8000}\.[A-Za-z0-9_-]{10,2000}",
        certain=False,
    ),
    _shape(
        "Authorization header",
        "authorization",
        r"(?i:(?:proxy-)?authorization[\"']?\s{0,5}[:=]\s{0,5}[\"']?(?:bearer|basic|token|bot)[ ]{1,5})"
        r"(?P<secret>[A-Za-z0-9._~+/=-]{8,8000})",
        certain=False,
    ),
    _shape(
        "bearer token",
        "bearer ",
        r"[Bb]earer[ ]{1,5}(?P<secret>(?=[A-Za-z._~+/-]{0,60}\d)[A-Za-z0-9._~+/-]{20,8000}=*)",
        certain=False,
    ),
    _shape(
        "password in a URL",
        "://",
        r"[A-Za-z][A-Za-z0-9+.-]{1,20}://(?:[^\s/:@\"'<>]{0,100}:(?P<secret>[^\s/@\"'<>]{1,500})|(?P<name>[A-Za-z0-9_-]{20,500}))@",
        certain=False,
        is_secret=lambda match: match.group("secret") is None or _is_no_placeholder(match),
    ),
)


def redact(text: str) -> tuple[str, list[str]]:
    """Replace known token shapes, for example by `[GitHub token removed]`. Gives the text and the kinds, each once."""
    kinds: list[str] = []
    lowered = text.lower()
    for shape in _SHAPES:
        if any(needle in lowered for needle in shape.needles):
            text, hits = _remove(shape, text)
            if hits:
                kinds.append(shape.kind)
    return text, kinds


def find(text: str) -> list[str]:
    """The kinds of secrets in `text` that are certain enough to keep a commit back."""
    lowered = text.lower()
    return [
        shape.kind
        for shape in _SHAPES
        if shape.certain
        and any(needle in lowered for needle in shape.needles)
        and any(shape.is_secret(match) for match in shape.pattern.finditer(text))
    ]


def _remove(shape: _Shape, text: str) -> tuple[str, int]:
    hits = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal hits
        if not shape.is_secret(match):
            return match.group(0)
        hits += 1
        mark = f"[{shape.kind} removed]"
        named = {name: value for name, value in match.groupdict().items() if value is not None}
        if not named:
            return mark
        start, end = match.span(next(iter(named)))
        start, end = start - match.start(), end - match.start()
        return match.group(0)[:start] + mark + match.group(0)[end:]

    return shape.pattern.sub(replace, text), hits


class Redactor:
    """Also removes the exact values `exact`: as they are, URL-encoded, JSON-escaped, in hex, and in base64."""

    def __init__(self, exact: Iterable[str]) -> None:
        forms = {form for value in exact for form in _forms(value)}
        # Longest first: a form that contains another must be removed whole.
        self._forms = sorted(forms, key=lambda form: (-len(form), form))

    def redact(self, text: str) -> tuple[str, list[str]]:
        """Gives the text without secrets, and the kinds that were in it."""
        found = [form for form in self._forms if form in text]
        for form in found:
            text = text.replace(form, "[secret removed]")
        text, kinds = redact(text)
        return text, [_EXACT, *kinds] if found else kinds


def _forms(value: str) -> set[str]:
    if len(value) < SHORTEST_EXACT:
        return set()
    data = value.encode("utf-8", "surrogatepass")
    urls = {quote(value, safe=safe, errors="replace") for safe in ("", "/")} | {quote_plus(value, errors="replace")}
    # Servers and logs write the hex digits of %2F in either case.
    forms = {value, *urls, *(re.sub(r"%..", lambda m: m.group(0).lower(), url) for url in urls)}
    forms |= {json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], data.hex(), data.hex().upper()}
    for shift in range(3):
        # Base64 of the value in the middle of other bytes: only the characters that the value alone decides.
        start, end = (0, 2, 3)[shift], (shift + len(data)) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            forms.add(encode(b"\0" * shift + data).decode("ascii")[start:end])
    # A key of several lines may leak one line at a time.
    forms |= {line.strip() for line in value.splitlines() if len(line.strip()) >= 24}
    return {form for form in forms if len(form) >= SHORTEST_EXACT}
