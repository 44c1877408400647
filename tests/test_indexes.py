"""Which package indexes a box is told of, and that no credential is among what it is told."""

from __future__ import annotations

import base64
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from uv import find_uv_bin

from integrations.doorrules import DoorRules, parse_host
from integrations.indexes import Indexes, found
from jobs.settings import indexes as variables

SECRET = "s3cr3t-v4lue"  # the only secret in these tests, however it is written down
B64 = base64.b64encode(SECRET.encode()).decode()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def put(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def look(home: Path, **env: str) -> Indexes:
    return found(env, home, system=home.parent / "etc")


def basic(user: str, password: str = SECRET) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def told(indexes: Indexes) -> str:
    """All that may reach the box, a log or a person."""
    return f"{indexes!r} {indexes.env} {indexes.files} {indexes.urls} {indexes.ignored}"


def leaks(text: str) -> bool:
    return SECRET in text or B64 in text or basic("ann").split()[1] in text


# What is found


def test_without_a_configuration_there_is_nothing(home: Path) -> None:
    assert look(home, PATH="/bin", HOME="/nowhere") == Indexes()


def test_pips_index_loses_its_password_on_the_way_into_the_box(home: Path) -> None:
    seen = look(home, PIP_INDEX_URL=f"https://ann:{SECRET}@pypi.corp:8443/root/simple/")
    assert seen.env["PIP_INDEX_URL"] == "https://pypi.corp:8443/root/simple/"
    assert seen.urls == ("https://pypi.corp:8443/root/simple/",)
    assert seen.credentials == {"https://pypi.corp:8443/root/": basic("ann")}
    assert not leaks(told(seen))
    assert leaks(str(dict(seen.credentials)))


def test_pips_files_are_read_in_its_own_order(home: Path) -> None:
    etc = home.parent / "etc"
    expected = ["xdg", "etc", "legacy", "user"]
    files = [
        (etc, "xdg/pip/pip.conf"), (etc, "pip.conf"), (home, ".pip/pip.conf"), (home, ".config/pip/pip.conf"),
    ]  # fmt: skip
    for name, (folder, path) in zip(expected, files, strict=True):
        put(folder, path, f"[global]\nindex-url = https://{name}/simple\n")
        assert look(home).env["PIP_INDEX_URL"] == f"https://{name}/simple"
    named = put(home.parent, "named.conf", "[global]\nindex_url: https://named/simple\n")
    assert look(home, PIP_CONFIG_FILE=str(named)).env["PIP_INDEX_URL"] == "https://named/simple"
    assert look(home, PIP_CONFIG_FILE=str(named), PIP_INDEX_URL="https://env/simple").env["PIP_INDEX_URL"] == (
        "https://env/simple"
    )
    assert look(home, PIP_CONFIG_FILE=os.devnull) == Indexes()


def test_a_file_that_is_named_to_pip_replaces_the_users_own(home: Path) -> None:
    put(home, ".config/pip/pip.conf", "[global]\nindex-url = https://user/simple\n")
    named = put(home.parent, "named.conf", "[global]\nextra-index-url = https://more/simple\n")
    assert "PIP_INDEX_URL" not in look(home, PIP_CONFIG_FILE=str(named)).env
    assert look(home, PIP_CONFIG_FILE=f"{named}-not").env["PIP_INDEX_URL"] == "https://user/simple"


def test_pips_install_section_is_over_global_even_in_an_earlier_file(home: Path) -> None:
    put(home, ".pip/pip.conf", "[install]\nindex-url = https://install/simple\n")
    put(home, ".config/pip/pip.conf", "[global]\nindex-url = https://global/simple\n[list]\nindex-url = https://no/\n")
    assert look(home).env["PIP_INDEX_URL"] == "https://install/simple"


def test_pips_extra_indexes_may_stand_on_lines_of_their_own(home: Path) -> None:
    put(
        home,
        ".config/pip/pip.conf",
        f"[global]\nextra-index-url =\n  https://a/simple\n  https://x:{SECRET}@b/simple\n",
    )
    seen = look(home)
    assert seen.env["PIP_EXTRA_INDEX_URL"] == "https://a/simple https://b/simple"
    assert seen.credentials == {"https://b/": basic("x")}


def test_uv_takes_over_pips_index_when_it_has_none_itself(home: Path) -> None:
    pip = {"PIP_INDEX_URL": "https://pip/simple", "PIP_EXTRA_INDEX_URL": "https://more/simple"}
    seen = look(home, **pip)
    assert (seen.env["UV_DEFAULT_INDEX"], seen.env["UV_INDEX"]) == tuple(pip.values())
    seen = look(home, **pip, UV_INDEX="https://uv/simple")
    assert "UV_DEFAULT_INDEX" not in seen.env
    assert seen.env["UV_INDEX"] == "https://uv/simple"


def test_uvs_named_indexes_keep_their_names_and_get_their_passwords_from_the_environment(home: Path) -> None:
    put(home, ".config/uv/uv.toml", '[[index]]\nname = "corp.main"\nurl = "https://corp/simple"\ndefault = true\n')
    seen = look(
        home,
        UV_INDEX=f"two=https://ann:no@two/simple https://bob:{SECRET}@three/q1/simple",
        UV_INDEX_CORP_MAIN_USERNAME="ann",
        UV_INDEX_CORP_MAIN_PASSWORD=SECRET,
        UV_INDEX_TWO_PASSWORD=SECRET,
        UV_INDEX_STRATEGY="unsafe-best-match",
    )
    assert seen.env == {
        "UV_DEFAULT_INDEX": "corp.main=https://corp/simple",
        "UV_INDEX": "two=https://two/simple https://three/q1/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }
    assert seen.credentials == {
        "https://two/": basic(""),
        "https://three/q1/": basic("bob"),
        "https://corp/": basic("ann"),
    }
    assert not leaks(told(seen))


def test_an_explicit_index_of_uv_is_let_through_but_not_asked_for_everything(home: Path) -> None:
    put(home, ".config/uv/uv.toml", '[[index]]\nname = "torch"\nurl = "https://u:p@torch/whl"\nexplicit = true\n')
    seen = look(home)
    assert seen.env == {}
    assert seen.urls == ("https://torch/whl",)
    assert seen.credentials == {"https://torch/whl/": basic("u", "p")}


def test_a_password_for_an_index_that_only_a_repository_may_name_is_not_used(home: Path) -> None:
    seen = look(home, UV_INDEX_CORP_PASSWORD=SECRET)
    assert seen.credentials == {}
    assert seen.ignored == (
        "UV_INDEX_CORP_PASSWORD: this machine configures no index of that name, so it is not used.",
    )


UV_SETUPS: list[tuple[dict[str, str], str, str]] = [
    ({}, 'index-url = "B/url"\n[[index]]\nname = "x"\nurl = "B/user"\ndefault = true\n',
     '[[index]]\nurl = "B/system"\ndefault = true\n'),
    ({"UV_INDEX_URL": "B/env"}, '[[index]]\nurl = "B/two"\n[[index]]\nurl = "B/default"\ndefault = true\n', ""),
    ({"UV_INDEX": "one=B/one B/one2", "UV_EXTRA_INDEX_URL": "B/extra"},
     ('extra-index-url = ["B/toml"]\nindex-url = "B/last"\n[[index]]\nname = "one"\nurl = "B/dup"\n'
     '[[index]]\nurl = "B/two"\n'),
     '[[index]]\nurl = "B/system"\n'),
    ({"UV_DEFAULT_INDEX": "main=B/main", "UV_INDEX_URL": "B/env", "UV_INDEX": "B/first"}, "", ""),
]  # fmt: skip


@pytest.mark.parametrize(("env", "user", "system"), UV_SETUPS)
def test_uv_asks_the_same_indexes_in_the_same_order_as_without_a_box(
    home: Path, env: dict[str, str], user: str, system: str
) -> None:
    with listening() as (base, asked):
        put(home, ".config/uv/uv.toml", user.replace("B/", base))
        put(home.parent, "etc/xdg/uv/uv.toml", system.replace("B/", base))
        env = {name: value.replace("B/", base) for name, value in env.items()}
        outside = resolve(home, {**env, "XDG_CONFIG_DIRS": str(home.parent / "etc/xdg")}, asked)
        (home.parent / "empty").mkdir()
        inside = resolve(home.parent / "empty", look(home, **env).env, asked)
    assert outside
    assert inside == outside


class listening:
    """An index on loopback that has no package, and the paths that it was asked for."""

    def __enter__(self) -> tuple[str, list[str]]:
        asked: list[str] = []

        class Nothing(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_error(404)

            def log_message(self, *args: Any) -> None: ...

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Nothing)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()
        return f"http://localhost:{self.server.server_port}/", asked

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def resolve(home: Path, env: Mapping[str, str], asked: list[str]) -> list[str]:
    asked.clear()
    subprocess.run(
        [find_uv_bin(), "pip", "compile", "--no-python-downloads", "--python", sys.executable, "-"],
        input="no-such-package\n", text=True, capture_output=True, check=False, cwd=home, timeout=60,
        env={"PATH": "/usr/bin:/bin", "HOME": str(home), "UV_CACHE_DIR": str(home / "cache"), **env},
    )  # fmt: skip
    return list(asked)


def test_netrc_has_the_password_of_an_index_that_has_none_and_of_no_other_host(home: Path) -> None:
    put(home, ".netrc", f"machine corp login ann password {SECRET}\nmachine github.com login ann password other\n")
    seen = look(home, PIP_INDEX_URL="https://corp/simple", UV_INDEX="https://u:p@corp/two/simple https://bob@corp/3")
    assert seen.credentials == {
        "https://corp/": basic("ann"),
        "https://corp/two/": basic("u", "p"),
        "https://corp/3/": basic("bob", ""),
    }
    assert not leaks(told(seen))


def test_npms_registries_go_in_and_their_tokens_stay_out(home: Path) -> None:
    put(
        home,
        ".npmrc",
        "; registry=https://commented/\n"
        "registry=https://npm.corp/repo/ ; the mirror\n"
        '@corp:registry = "https://npm.pkg.corp"\n'
        f"//npm.corp/repo/:_authToken={SECRET}\n"
        "//npm.pkg.corp/:username=ann\n"
        f"//npm.pkg.corp/:_password={B64}\n"
        "email=ann@corp\n",
    )
    seen = look(home)
    assert seen.env == {"NPM_CONFIG_REGISTRY": "https://npm.corp/repo/"}
    assert seen.files == {".npmrc": "registry=https://npm.corp/repo/\n@corp:registry=https://npm.pkg.corp\n"}
    assert seen.credentials == {"https://npm.corp/repo/": f"Bearer {SECRET}", "https://npm.pkg.corp/": basic("ann")}
    assert seen.ignored == ()
    assert not leaks(told(seen))


def test_npms_environment_is_over_the_users_file_and_that_over_the_machines(home: Path) -> None:
    put(home.parent, "etc/npmrc", "registry=https://machine/\n@a:registry=https://a/\n")
    assert look(home).env["NPM_CONFIG_REGISTRY"] == "https://machine/"
    put(home, ".npmrc", "registry=https://user/\n")
    seen = look(home, npm_config_userconfig=str(home / ".npmrc"))
    assert seen.files[".npmrc"] == "registry=https://user/\n@a:registry=https://a/\n"
    for name in ("npm_config_registry", "NPM_CONFIG_REGISTRY"):
        assert look(home, **{name: "https://env/"}).env["NPM_CONFIG_REGISTRY"] == "https://env/"
    put(home, "prefix/etc/npmrc", "@b:registry=https://b/\n")
    for prefix in (str(home / "prefix"), "~/prefix"):
        assert "@b:registry=https://b/\n" in look(home, npm_config_prefix=prefix).files[".npmrc"]


def test_npms_tokens_may_come_from_variables(home: Path) -> None:
    put(home, ".npmrc", "registry=https://npm/\n//npm/:_authToken=${TOKEN}\n")
    assert look(home, TOKEN=SECRET).credentials == {"https://npm/": f"Bearer {SECRET}"}
    unset = look(home)
    assert unset.credentials == {}
    assert unset.ignored == (f"{home}/.npmrc, line 2: a variable that it names is not set.",)
    put(home, ".npmrc", "registry=http://npm:81/\n")
    seen = found({"npm_config_//npm:81/:_auth": B64}, home, system=home / "etc")
    assert seen.credentials == {"http://npm:81/": f"Basic {B64}"}


def test_a_token_of_npm_for_a_host_that_no_registry_names_is_not_used(home: Path) -> None:
    put(home, ".npmrc", f"//registry.npmjs.org/:_authToken={SECRET}\n_authToken={SECRET}\n")
    seen = look(home, PIP_INDEX_URL="https://registry.npmjs.org/simple")
    assert seen.credentials == {}
    assert seen.ignored == (
        f"{home}/.npmrc, line 2: credentials must name their host, as in //host/:_authToken.",
        f"{home}/.npmrc, line 1: no registry of that host is configured, so it is not used.",
    )


# What cannot be used


@pytest.mark.parametrize(
    ("env", "word"),
    [
        ({"PIP_INDEX_URL": "file:///srv/index"}, "PIP_INDEX_URL"),
        ({"PIP_INDEX_URL": "/srv/index"}, "PIP_INDEX_URL"),
        ({"PIP_INDEX_URL": f"https://ann:{SECRET}@10.1.2.3/simple"}, "PIP_INDEX_URL"),
        ({"PIP_INDEX_URL": f"https://ann:{SECRET}@[fe80::1]/simple"}, "PIP_INDEX_URL"),
        ({"PIP_INDEX_URL": f"https://ann:{SECRET[:3]}/{SECRET}@corp/simple"}, "not an address such as"),
        ({"PIP_INDEX_URL": f"https://ann:12/{SECRET}@corp/simple"}, "not an address such as"),
        ({"PIP_INDEX_URL": f"https://corp/simple?token={SECRET}"}, "not an address such as"),
        ({"PIP_INDEX_URL": f"https://ann:a#{SECRET}@corp/simple"}, "not an address such as"),
        ({"PIP_INDEX_URL": "https://corp/a/../simple"}, "not an address such as"),
        ({"PIP_INDEX_URL": "https://corp/simple\nPIP_FIND_LINKS=x"}, "not an address such as"),
        ({"UV_DEFAULT_INDEX": f"https://ann:{SECRET}@[corp/simple"}, "UV_DEFAULT_INDEX"),
        ({"PIP_FIND_LINKS": "/srv/wheels"}, "folders and pages"),
        ({"UV_FIND_LINKS": "/srv/wheels"}, "folders and pages"),
        ({"PIP_CLIENT_CERT": "/k.pem"}, "client certificate"),
        ({"SSL_CLIENT_CERT": "/k.pem"}, "client certificate"),
        ({"PIP_TRUSTED_HOST": "corp"}, "checked all the same"),
        ({"npm_config_strict_ssl": "false"}, "checked all the same"),
        ({"npm_config_cafile": "/ca.pem"}, "do not reach"),
        ({"HTTPS_PROXY": f"http://ann:{SECRET}@proxy:3128"}, "HTTPS_PROXY: commands in the box"),
        ({"http_proxy": f"http://ann:{SECRET}@proxy:3128"}, "http_proxy: commands in the box"),
        ({"npm_config_https_proxy": f"http://ann:{SECRET}@proxy"}, "only our own proxy"),
        ({"PIP_KEYRING_PROVIDER": "subprocess"}, "no keyring"),
    ],
)
def test_what_is_of_no_use_in_the_box_is_told_without_its_value(home: Path, env: dict[str, str], word: str) -> None:
    seen = look(home, **env)
    assert word in " ".join(seen.ignored)
    assert seen.urls == ()
    assert seen.env == {}
    assert not leaks(told(seen))
    assert not any(value in told(seen) for value in env.values() if len(value) > 8)


@pytest.mark.parametrize("env", [{"npm_config_proxy": "null"}, {"npm_config_strict_ssl": "true"}, {"HTTP_PROXY": ""}])
def test_nothing_is_told_of_what_is_off(home: Path, env: dict[str, str]) -> None:
    assert look(home, **env) == Indexes()


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        (".config/pip/pip.conf", f"[global]\nindex-url = https://ann:{SECRET}@corp/\n{SECRET}\n", 3),
        (".config/pip/pip.conf", f"index-url = https://ann:{SECRET}@corp/\n", 1),
        (".config/pip/pip.conf", f"[global]\nindex-url = {SECRET}\nindex-url = {SECRET}\n", 3),
        (".config/uv/uv.toml", f'index-url = "https://ann:{SECRET}@corp/"\n[[index]]\nurl = {SECRET}\n', 3),
        (".config/uv/uv.toml", "index-url = " + "[" * 5000, 1),
    ],
)
def test_a_broken_file_is_named_with_its_line_and_nothing_of_it_is_shown(
    home: Path, name: str, text: str, line: int
) -> None:
    put(home, name, text)
    seen = look(home)
    assert seen.ignored == (f"{home}/{name}, line {line}: not understood, so nothing of this file is used.",)
    assert seen.env == {}
    assert not leaks(told(seen))


def test_a_broken_netrc_and_bytes_that_are_no_text_are_named_too(home: Path) -> None:
    put(home, ".netrc", f"machine corp login ann password {SECRET}\nnonsense {SECRET}\n")
    (home / ".npmrc").write_bytes(b"registry=https://npm/\n\xff\xfe\n")
    seen = look(home, PIP_INDEX_URL="https://corp/simple")
    assert seen.ignored[0].startswith(f"{home}/.netrc, line 2: not understood")
    assert seen.ignored[1].startswith(f"{home}/.npmrc, line 2: not understood")
    assert not leaks(told(seen))


@pytest.mark.parametrize("name", [".npmrc", ".netrc", ".config/pip/pip.conf", ".config/uv/uv.toml"])
def test_a_pipe_in_the_place_of_a_file_keeps_nobody_waiting(home: Path, name: str) -> None:
    (home / name).parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(home / name)
    assert look(home, PIP_INDEX_URL="https://corp/simple").ignored == ()


def test_of_two_logins_for_one_address_the_first_stays_and_it_is_told(home: Path) -> None:
    seen = look(home, PIP_INDEX_URL="https://a:1@corp/simple", UV_INDEX=f"https://b:{SECRET}@corp/simple")
    assert seen.credentials == {"https://corp/": basic("a", "1")}
    assert seen.ignored == ("UV_INDEX: other credentials are in use for the same address.",)


# Where credentials go


def header(indexes: Indexes, url: str) -> str:
    """What the proxy adds to a request for that address."""
    hosts = tuple(map(parse_host, indexes.origins))
    scheme, _, rest = url.partition("://")
    authority, _, path = rest.partition("/")
    rules = DoorRules(hosts=hosts, credentials=indexes.credentials)
    tunnel = rules.tunnel(authority if ":" in authority else f"{authority}:443", None) if scheme == "https" else None
    asked = rules.asked("GET", f"/{path}" if tunnel else url, [(b"Host", authority.encode())], tunnel)
    return dict(asked.headers).get(b"Authorization", b"").decode()


@pytest.mark.parametrize(
    ("index", "asked", "gets"),
    [
        ("https://corp/root/simple", "https://corp/root/simple/flask/", True),
        ("https://corp/root/simple", "https://CORP:443/root/packages/flask.whl", True),
        ("http://corp:81/root/+simple/", "http://corp:81/root/+f/flask.whl", True),
        ("https://corp/simple", "https://corp/simple", True),
        ("https://corp/api/v4/projects/1/packages/pypi/simple", "https://corp/api/v4/user", False),
        ("https://corp/root/simple", "https://corp/rootkit/flask.whl", False),
        ("https://corp/root/simple", "https://corp/root/../api", False),
        ("https://pkgs.dev.azure.com/org/_packaging/feed/pypi/simple/",
         "https://pkgs.dev.azure.com/org/1-2-3/_packaging/4-5/pypi/download/flask/1/flask.whl", True),
        ("https://pkgs.dev.azure.com/org/_packaging/feed/pypi/simple/", "https://pkgs.dev.azure.com/other/x", False),
    ],
)  # fmt: skip
def test_credentials_go_to_the_place_that_they_are_for(home: Path, index: str, asked: str, gets: bool) -> None:
    seen = look(home, PIP_INDEX_URL=index.replace("//", f"//ann:{SECRET}@"))
    assert header(seen, asked) == (basic("ann") if gets else "")


def test_the_longest_address_decides(home: Path) -> None:
    seen = look(home, PIP_INDEX_URL="https://a:1@corp/simple", PIP_EXTRA_INDEX_URL="https://b:2@corp/team/simple")
    assert header(seen, "https://corp/team/x.whl") == basic("b", "2")
    assert header(seen, "https://corp/teams/x.whl") == basic("a", "1")


# Whatever stands there


def test_the_check_for_leaks_would_see_one(home: Path) -> None:
    url = f"https://ann:{SECRET}@corp/simple"
    assert leaks(told(Indexes(env={"PIP_INDEX_URL": url})))
    assert leaks(told(Indexes(ignored=(f"{url} is no index",))))
    assert not leaks(told(Indexes(credentials={"https://corp/": basic("ann")})))


KNOWN_LINES = [
    "[global]", "[install]", "[[index]]", "default = true", "index-url = ", "  https://b/simple", "name = 'x'",
    f"index-url = https://ann:{SECRET}@corp/simple", f'url = "https://ann:{SECRET}@corp/simple"', "index = 3",
    f'index-url = "https://ann:{SECRET}@corp/simple"', "index = [[]]", f"registry=https://ann:{SECRET}@corp/",
    f"//corp/:_authToken={SECRET}", "registry=${", SECRET, f"machine corp login ann password {SECRET}", "machine",
    "default", "macdef x", "@a:registry=https://a/",
]  # fmt: skip
LINES = st.lists(st.one_of(st.text(max_size=40), st.sampled_from(KNOWN_LINES)), max_size=8).map("\n".join)


def homes() -> Iterator[str]:
    yield from (".config/pip/pip.conf", ".pip/pip.conf", ".config/uv/uv.toml", ".npmrc", ".netrc")


@given(text=st.one_of(LINES, st.binary(max_size=80)))
@example(text='[[index]]\nname = "a b"\nurl = 3\n')
@example(text="\x00")
@example(text="[global]\n index-url = x\n  y")
def test_any_text_as_a_configuration_raises_nothing_and_leaks_nothing(
    tmp_path_factory: pytest.TempPathFactory, text: str | bytes
) -> None:
    home = tmp_path_factory.mktemp("home")
    data = text if isinstance(text, bytes) else text.encode(errors="surrogatepass")
    for name in homes():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(data)
    assert not leaks(told(look(home)))


VARIABLES = [
    "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONFIG_FILE", "UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL", "UV_CONFIG_FILE", "npm_config_registry", "npm_config_userconfig", "npm_config_globalconfig",
    "PREFIX", "NETRC", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS", "npm_config_//corp/:_authToken",
    "npm_config_//corp/:_password", "npm_config_//corp/:username",
]  # fmt: skip
VALUES = st.one_of(
    st.text(st.characters(exclude_characters="\x00"), max_size=30),
    st.sampled_from(
        [
            "https://[",
            "https://:80/",
            "http://u@h:99999/",
            "=",
            "a=b=c",
            "https://corp/",
            "~/x",
            "x" * 5000,
            "https://u:p@10.1/",
            "https://u:p@a%20b/c%2fd/",
            "https://u:p@a_b/",
            "https://u:p@a.b.:443//x/",
            "http://u@[::1]/",
        ]
    ),
)


@given(env=st.dictionaries(st.sampled_from(VARIABLES), VALUES))
def test_any_environment_raises_nothing_and_the_proxy_takes_what_is_found(env: dict[str, str]) -> None:
    seen = found(env, Path("/nonexistent"), system=Path("/nonexistent/etc"))
    for url in seen.urls:
        assert "@" not in url
    assert len([parse_host(origin) for origin in seen.origins]) <= len(seen.urls)
    DoorRules(credentials=seen.credentials)  # else a mistake in the operator's configuration would stop the set-up


def test_an_npmrc_may_take_its_token_from_any_variable_of_the_operators(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(home, ".npmrc", "registry=https://nexus/npm/\n//nexus/npm/:_authToken=${NPM_TOKEN}\n")
    monkeypatch.setenv("NPM_TOKEN", SECRET)
    monkeypatch.setenv("UNRELATED_PASSWORD", SECRET)
    seen = look(home, **{**variables(), "HOME": str(home)})
    assert seen.credentials["https://nexus/npm/"] == f"Bearer {SECRET}"
    assert not leaks(told(seen))
