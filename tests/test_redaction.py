"""Secrets are taken out of text; hashes, ids and ordinary words stay.

All tokens are put together here from pieces, so that nobody's scanner takes this file for a leak.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import string
import time
import uuid
from urllib.parse import quote

import pytest

from integrations.redaction import Redactor, find, redact

ALNUM = string.ascii_letters + string.digits


def chars(count: int, alphabet: str = ALNUM, seed: int = 1) -> str:
    return "".join(random.Random(f"{seed}{count}{alphabet}").choices(alphabet, k=count))


def segment(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


HEX = "0123456789abcdef"
JWT = f"{segment({'alg': 'HS256', 'typ': 'JWT'})}.{segment({'sub': '1234567890'})}.{chars(43)}"
DISCORD = f"{base64.b64encode(b'1084512345678901234').decode().rstrip('=')}.{chars(6)}.{chars(38)}"
PEM = "\n".join(
    ["-----BEGIN RSA PRIVATE" + " KEY-----", chars(64), chars(64, seed=2), "-----END RSA PRIVATE" + " KEY-----"]
)

TOKENS = [
    ("GitHub token", "ghp_" + chars(36)),
    ("GitHub token", "gho_" + chars(36)),
    ("GitHub token", "ghs_" + chars(36)),
    ("GitHub token", f"ghs_{segment({'alg': 'RS256', 'typ': 'JWT'})}.{chars(300)}.{chars(150)}"),
    ("GitHub token", "github_pat_" + chars(22) + "_" + chars(59)),
    ("GitLab token", "glpat-" + chars(20)),
    ("Slack token", f"xoxb-{chars(12, string.digits)}-{chars(12, string.digits)}-{chars(24)}"),
    ("Slack token", f"xapp-1-A0{chars(9, string.ascii_uppercase)}-{chars(13, string.digits)}-{chars(64, HEX)}"),
    ("Slack token", "xoxe.xoxp-1-" + chars(60)),
    ("Slack webhook", f"https://hooks.slack.com/services/T{chars(8)}/B{chars(8)}/{chars(24)}"),
    ("Discord token", DISCORD),
    ("Discord webhook", f"https://discord.com/api/webhooks/{chars(19, string.digits)}/{chars(68)}"),
    ("Anthropic key", "sk-ant-api03-" + chars(93)),
    ("OpenRouter key", "sk-or-v1-" + chars(64, HEX)),
    ("OpenAI key", "sk-proj-" + chars(120)),
    ("OpenAI key", "sk-" + chars(20) + "T3BlbkFJ" + chars(20)),
    ("AWS access key", "AKIA" + chars(16, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")),
    ("Google key", "AIza" + chars(35)),
    ("Google key", "ya29." + chars(100)),
    ("Stripe key", "sk_live_" + chars(24)),
    ("npm token", "npm_" + chars(36)),
    ("PyPI token", "pypi-AgEIcHlwaS5vcmc" + chars(120)),
    ("Hugging Face token", "hf_" + chars(34, string.ascii_letters)),
    ("SendGrid key", f"SG.{chars(22)}.{chars(43)}"),
    ("Telegram token", f"{chars(10, '123456789')}:AA{chars(33)}"),
    ("Azure key", "AccountKey=" + chars(86) + "=="),
    ("Azure key", chars(3) + "8Q~" + chars(34)),
    ("Twilio key", "SK" + chars(32, HEX)),
    ("access token", "dop_v1_" + chars(64, HEX)),
    ("access token", "hvs." + chars(90)),
    ("private key", PEM),
    ("private key", PEM.replace("\n", "\\n")),
    ("private key", PEM.rsplit("\n", 1)[0]),
]
LOOSE = [
    ("AWS secret key", 'aws_secret_access_key = "{}"', chars(40)),
    ("JSON web token", "session {}", JWT),
    ("Authorization header", "Authorization: Bearer {}", chars(30)),
    ("Authorization header", "curl -H 'authorization: Basic {}'", "dXNlcjpwYXNzd29yZA=="),
    ("bearer token", "Bearer {}", "a1" + chars(30)),
    ("password in a URL", "postgres://app:{}@db.example.com/x", "hunter2!x"),
    ("password in a URL", "https://{}@example.com/x.git", chars(30)),
]


@pytest.mark.parametrize(("kind", "token"), TOKENS, ids=[kind for kind, _ in TOKENS])
@pytest.mark.parametrize(
    "around", ["{}", "my token is {}, take it", 'KEY="{}"', "({})", "a\n{}\nb", "`{}`.", "x={}&y=1"]
)
def test_known_tokens_are_removed_and_named_wherever_they_stand(kind: str, token: str, around: str) -> None:
    text, kinds = redact(around.format(token))
    assert kinds == [kind]
    assert text == around.format(f"[{kind} removed]") or kind in ("Azure key", "private key", "GitHub token")
    assert token[-12:] not in text
    assert f"[{kind} removed]" in text
    assert redact(text) == (text, [])
    assert find(around.format(token)) == [kind]


@pytest.mark.parametrize(("kind", "around", "secret"), LOOSE)
def test_secrets_known_by_what_stands_around_them_leave_that_in_place(kind: str, around: str, secret: str) -> None:
    text, kinds = redact(around.format(secret))
    assert kinds == [kind]
    assert text == around.format(f"[{kind} removed]")


def test_several_secrets_in_one_text_are_each_named_once() -> None:
    one, two = TOKENS[0][1], TOKENS[5][1]
    assert redact(f"{one} {two} {one}") == (
        "[GitHub token removed] [GitLab token removed] [GitHub token removed]", ["GitHub token", "GitLab token"],
    )  # fmt: skip


def _benign(rng: random.Random) -> list[str]:
    def blob(count: int) -> bytes:
        return rng.randbytes(count)

    hex64 = hashlib.sha256(blob(8)).hexdigest()
    integrity = base64.b64encode(blob(64)).decode()
    return [
        hashlib.sha1(blob(8)).hexdigest(),
        f"commit {hex64}",
        f'    "integrity": "sha512-{integrity}",',
        f'    "resolved": "https://registry.example.org/pkg/-/pkg-1.0.0.tgz#{hex64[:40]}",',
        f"    --hash=sha256:{hex64} \\",
        f'{{ url = "https://files.example.org/packages/{hex64[:2]}/x.whl", hash = "sha256:{hex64}", size = 123 }}',
        f"id = {uuid.UUID(bytes=blob(16))}",
        f"golang.org/x/net v0.1.0 h1:{base64.b64encode(blob(32)).decode()}",
        f"data:image/png;base64,{base64.b64encode(blob(90)).decode()}",
        f"class {chars(30, string.ascii_letters, rng.randint(0, 10**9))}.method.{chars(30, string.ascii_letters)}",
        f"2026-11-01T12:00:{rng.randint(10, 59)}Z INFO worker[{rng.randint(1, 9999)}]: task-{hex64[:32]} done",
        f"docker pull registry.example.org/app@sha256:{hex64}",
        f"https://ann@example.com:8443/a/b?x={hex64[:8]} mailto:ann@example.com",
        f".sk-{chars(8)} {{ color: #{hex64[:6]} }}",
    ]


WORDS = [
    "the token is missing: set SLACK_BOT_TOKEN=xoxb-your-token-here",
    "Authorization: Bearer $TOKEN",
    "postgres://user:${PASSWORD}@host/db",
    "postgres://user:***@host/db",
    "postgres://user:{password}@host/db",
    "http://localhost:8000/a@b",
    "def test_sk_live_key(): ...",
    'if text.startswith("-----BEGIN PRIVATE KEY-----"):',
    "AKIAIOSFODNN7EXAMPLE",
    "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "task-" + "a1b2" * 8,
    "hf_model_name_that_is_quite_long_and_has_underscores",
    "npm_config_registry npm_package_json npm_lifecycle_event",
    "git@github.com:acme/api.git ssh://git@github.com/acme/api.git",
    "eyJ is how JSON web tokens begin",
    "ghp_ and github_pat_ are prefixes; sk-… too",
    "com.example.Application.getSomethingVeryLongNamed.abcdef.someOtherNameThatIsAlsoLong",
]


def test_hashes_ids_and_lock_files_stay_as_they_are() -> None:
    rng = random.Random(7)
    for line in [line for _ in range(200) for line in _benign(rng)] + WORDS:
        assert redact(line) == (line, [])
        assert find(line) == []
    # The control: the same lines with a token among them are found out.
    for line in [*_benign(rng), *WORDS]:
        assert redact(f"{line} {TOKENS[0][1]}")[1] == ["GitHub token"]


SECRET = 'pa$$/w+rd "ü" 12345'


@pytest.mark.parametrize(
    "leak",
    [
        SECRET,
        quote(SECRET),
        quote(SECRET, safe=""),
        quote(SECRET, safe="").lower(),
        quote(SECRET, safe="").replace("%20", "+"),
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET, ensure_ascii=False)[1:-1],
        SECRET.encode().hex(),
        SECRET.encode().hex().upper(),
        *(base64.b64encode(b"x" * n + SECRET.encode() + b"yz" * m).decode() for n in range(4) for m in range(3)),
        base64.urlsafe_b64encode(b"user:" + SECRET.encode()).decode(),
    ],
)
def test_exact_values_are_removed_in_every_usual_form(leak: str) -> None:
    text, kinds = Redactor([SECRET]).redact(f"before {leak} after")
    assert kinds == ["a configured secret"]
    assert "[secret removed]" in text
    assert text.startswith("before ")
    assert text.endswith(" after")
    for form in (SECRET, "12345", SECRET.encode().hex()[-10:], base64.b64encode(SECRET.encode()).decode()[4:16]):
        assert form not in text


def test_lines_of_a_long_exact_value_are_removed_one_by_one_and_short_values_are_left_alone() -> None:
    assert PEM.splitlines()[1] not in Redactor([PEM]).redact(f"line: {PEM.splitlines()[1]}")[0]
    assert Redactor(["a", "", "the"]).redact("the cat and a hat") == ("the cat and a hat", [])
    assert Redactor(["secret-one", "secret-one-more"]).redact("secret-one-more")[0] == "[secret removed]"


def test_tokens_are_removed_by_a_redactor_too_and_text_without_secrets_is_the_same() -> None:
    redactor = Redactor([SECRET])
    assert redactor.redact(f"{SECRET} {TOKENS[0][1]}") == (
        "[secret removed] [GitHub token removed]", ["a configured secret", "GitHub token"],
    )  # fmt: skip
    assert redactor.redact("nothing here \udce9 ü") == ("nothing here \udce9 ü", [])


def test_a_megabyte_of_text_is_read_in_little_time_also_when_it_is_made_to_be_slow() -> None:
    rng = random.Random(3)
    ordinary = "\n".join(line for _ in range(900) for line in _benign(rng))
    hostile = [
        "-----BEGIN PRIVATE KEY-----" * 9000,
        "eyJ" * 80_000,
        "eyJ-" * 60_000,
        "sk-ant " * 40_000,
        "a://b:c" * 40_000,
        "SG." * 80_000,
        "N-" * 120_000 + "." * 100_000,
        "1Q~" * 80_000 + "AZDO",
        "xoxb-1 " * 40_000,
        "authorization: bearer " * 12_000,
        "a://" * 60_000 + "@",
        "ghs_" + "." * 250_000,
        "Bearer " * 40_000,
        "xoxb-" * 50_000,
        "M" * 250_000,
        "aws_secret_key" + " " * 250_000,
    ]
    redactor = Redactor([chars(40, seed=n) for n in range(10)])
    for text in [ordinary, *hostile]:
        started = time.perf_counter()
        redactor.redact(text)
        assert time.perf_counter() - started < 2.0, text[:40]
