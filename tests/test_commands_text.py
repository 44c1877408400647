"""What a message asks for: verbs, options, answers."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bot.chat import Ask
from bot.commands import (
    BY_WORD,
    OPTIONS,
    VERBS,
    BadOption,
    Options,
    Verb,
    Words,
    answer_text,
    help_text,
    is_aside,
    parse,
    verbs_markdown,
    with_options,
)
from bot.text import neutralise, plain, split

# ---- verbs


@pytest.mark.parametrize(
    ("said", "verb"),
    [
        ("help", Verb("help")),
        ("  Status ", Verb("status")),
        ("status tw-k3f9", Verb("status", ("tw-k3f9",))),
        ("STATUS TW-K3F9", Verb("status", ("tw-k3f9",))),
        ("list", Verb("list")),
        ("list mine", Verb("list", ("mine",))),
        ("stop", Verb("cancel")),
        ("Stop!", Verb("cancel")),
        ("cancel tw-abcd2", Verb("cancel", ("tw-abcd2",))),
        ("retry tw-abcd2.", Verb("retry", ("tw-abcd2",))),
        ("move acme/api", Verb("move", ("acme/api",))),
        ("move acme/api tw-abcd", Verb("move", ("acme/api", "tw-abcd"))),
        ("move tw-abcd acme/api", Verb("move", ("acme/api", "tw-abcd"))),
        ("repo", Verb("repo")),
        ("repo acme/api.js", Verb("repo", ("acme/api.js",))),
        ("approve", Verb("approve")),
    ],
)
def test_a_verb_with_its_arguments_is_a_verb(said: str, verb: Verb) -> None:
    assert parse(said) == verb


@pytest.mark.parametrize(
    "said",
    [
        "stop using the old client",
        "cancel the subscription when the card expires",
        "status page shows the wrong colour",
        "status of tw-k3f9",
        "list yours",
        "move on",
        "move",
        "help me",
        "approve?",
        "plan a migration",
        "retry 3",
        "status tw-abc",
        "mute tw-k3f9",
        "new endpoint",
        "repo acme api",
        "/status",
        "",
        "...",
    ],
)
def test_words_that_begin_like_a_verb_are_words(said: str) -> None:
    asked = parse(said)
    assert isinstance(asked, Words)
    assert asked.text == said


def test_a_path_is_a_repository_only_for_the_machines_own_terminal() -> None:
    assert parse("move /srv/repo", local=True) == Verb("move", ("/srv/repo",))
    assert isinstance(parse("move /srv/repo"), Words)


VERB_WORDS = sorted(BY_WORD)
TASK_WORDS = ["the", "client", "add", "retries", "tests", "old", "fix", "a", "in", "README.md"]


@given(st.sampled_from(VERB_WORDS), st.lists(st.sampled_from(TASK_WORDS), min_size=1, max_size=6))
def test_a_verb_never_swallows_a_task(verb: str, words: list[str]) -> None:
    said = " ".join((verb, *words))
    assert parse(said) == Words(said, {})


def test_the_check_for_swallowed_tasks_would_see_one() -> None:
    assert parse("list mine") != Words("list mine", {})


@pytest.mark.parametrize(
    ("said", "aside"),
    [
        ("!aside he is wrong", True),
        (" !ASIDE", True),
        ("!aside: x", True),
        ("!asides", False),
        ("no !aside", False),
        ("!aside-x", False),
    ],
)
def test_an_aside_is_recognised(said: str, aside: bool) -> None:
    assert is_aside(said) is aside


# ---- options


@pytest.mark.parametrize(
    ("said", "text", "options"),
    [
        ("[repo=acme/api] add retries", "add retries", {"repo": "acme/api"}),
        ("add retries [repo=acme/api]", "add retries", {"repo": "acme/api"}),
        ("add [repo=acme/api] retries", "add retries", {"repo": "acme/api"}),
        ("[repo = acme/api, plan=ASK] x", "x", {"repo": "acme/api", "plan": "ask"}),
        ('[branch="develop" model=“gpt-5”] x', "x", {"branch": "develop", "model": "gpt-5"}),
        ("repo=acme/api add retries", "add retries", {"repo": "acme/api"}),
        ("add retries repo=acme/api budget=2", "add retries", {"repo": "acme/api", "budget": "2"}),
        ("pass branch=main to the script", "pass branch=main to the script", {"branch": "main"}),
        ("[repo=https://github.com/acme/api] x", "x", {"repo": "https://github.com/acme/api"}),
        ("[time=20m]\nfix\n\n  indented", "fix\n\n  indented", {"time": "20m"}),
    ],
)
def test_options_are_taken_out_of_the_words(said: str, text: str, options: dict[str, str]) -> None:
    asked = parse(said)
    assert isinstance(asked, Words)
    assert (asked.text, dict(asked.options)) == (text, options)


@pytest.mark.parametrize(
    "said",
    [
        "add debug=True",
        "time=now or never",
        "budget=lots",
        "plan=maybe later",
        "[x] todo",
        "[ ] todo",
        "see [the docs](https://example.org/a=b)",
        "see [repo=acme/api](https://example.org)",
        "as shown in [1]",
        "set `[repo=acme/api]` in the file",
        "```\n[repo=acme/api budget=no]\nbudget=3\n```",
        "use items[i=1] here",
        "[a => b]",
        "[a == b]",
        r"\[debug=True\]",
        "[debug=True",
    ],
)
def test_what_only_looks_like_an_option_is_words(said: str) -> None:
    assert parse(said) == Words(said, {})


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ("[debug=True] x", "`debug`"),
        ("[repo=acme] x", "`repo`"),
        ("[repo=/srv/x] x", "`repo`"),
        ("[repo=] x", "no value"),
        ("[repo=acme/api please] x", "`please`"),
        ("[plan=later] x", "`plan`"),
        ("[budget=0] x", "`budget`"),
        ("[budget=-1] x", "`budget`"),
        ("[budget=nan] x", "`budget`"),
        ("[budget=1e9] x", "`budget`"),
        ("[time=20] x", "`time`"),
        ("[time=0m] x", "`time`"),
        ("[branch=a..b] x", "`branch`"),
        ("[branch=-x] x", "`branch`"),
        ("[repo=acme/api branch=x", "not closed"),
        ('[repo="acme/api] x', "not closed"),
        ("[repo=a/b repo=c/d] x", "twice"),
        ("[repo=a/b] x repo=c/d", "twice"),
    ],
)
def test_a_bad_option_in_brackets_names_the_valid_ones(said: str, names: str) -> None:
    with pytest.raises(BadOption) as caught:
        parse(said)
    assert names in str(caught.value)
    assert all(f"`{option.name}=" in str(caught.value) for option in OPTIONS)
    assert "!" not in str(caught.value)


def test_only_models_that_are_offered_may_be_chosen() -> None:
    assert isinstance(parse("[model=gpt-5] x", models=("gpt-5",)), Words)
    with pytest.raises(BadOption, match="gpt-5"):
        parse("[model=gpt-6] x", models=("gpt-5",))
    assert parse("model=gpt-6 x", models=("gpt-5",)) == Words("model=gpt-6 x", {})


def test_options_are_typed() -> None:
    asked = parse("[repo=acme/api branch=dev model=gpt-5 plan=go budget=$2.50 time=1h30m] x")
    assert isinstance(asked, Words)
    assert asked.chosen == Options("acme/api", "dev", "gpt-5", "go", 2.5, 90)
    assert Words("x", {}).chosen == Options()


@pytest.mark.parametrize(("value", "minutes"), [("20m", 20), ("2h", 120), ("90s", 1.5), ("45min", 45), ("1h5m", 65)])
def test_times_are_minutes(value: str, minutes: float) -> None:
    asked = parse(f"[time={value}] x")
    assert isinstance(asked, Words)
    assert asked.chosen.time == minutes


ODD = ["“", "”", "\\", "\n", "```", "~~~", "repo", "budget", "time", "2", "acme/api", "tw-abcd", "stop", "[repo=a/b]"]
PIECES = st.lists(st.sampled_from([*"[]=\"' `x,()é", *ODD, "[x=", "\x00", "\ud800"]), max_size=30).map("".join)


@settings(max_examples=400)
@given(st.one_of(PIECES, st.text(max_size=80)), st.booleans())
@example('[repo="', False)
def test_any_text_is_read_without_another_error(said: str, local: bool) -> None:
    asked: object = None
    with contextlib.suppress(BadOption):
        asked = parse(said, local=local)
    if isinstance(asked, Words):
        assert asked.chosen == asked.chosen
        assert len(asked.text) <= len(said)
        if not asked.options:
            assert asked.text == said.strip() or asked.text == said


PATHS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=40).map(lambda s: f"/srv/{s}x")


@given(PATHS, st.sampled_from(["", "develop"]))
def test_a_path_given_as_an_option_arrives_as_it_was(path: str, branch: str) -> None:
    asked = parse(with_options("add retries", {"repo": path, "branch": branch}), local=True)
    wanted = {"repo": path, "branch": branch} if branch else {"repo": path}
    assert asked == Words("add retries", wanted)


@pytest.mark.parametrize("piece", ['[a="', "repo=a/b ", "[repo=a/b]", "`a`[x=", "[[[", "**a ", "\x90x", "`" * 3 + "\n"])
def test_hostile_text_of_forty_thousand_characters_is_read_quickly(piece: str) -> None:
    text = piece * (40_000 // len(piece))
    began = time.monotonic()
    with contextlib.suppress(BadOption):
        parse(text)
    plain(text)
    neutralise(text)
    split(text, 2000)
    assert time.monotonic() - began < 5


# ---- answers


ONE = (Ask("How many retries?", ("3", "5", "10")),)
TWO = (Ask("Which client?", ("old", "new")), Ask("Log it?", ("yes", "no")))


@pytest.mark.parametrize(
    ("asks", "said", "meant"),
    [
        (ONE, "2", "5"),
        (ONE, "c", "10"),
        (ONE, "3", "3"),
        (ONE, "7", "7"),
        (ONE, "twice, then stop", "twice, then stop"),
        ((), "2", "2"),
        (TWO, "1: 2; 2: 1", "1. Which client? new\n2. Log it? yes"),
        (TWO, "1b 2a", "1. Which client? new\n2. Log it? yes"),
        (TWO, "2: no", "2. Log it? no"),
        (TWO, "1: 2; 2: only errors", "1. Which client? new\n2. Log it? only errors"),
        (TWO, "3: 1", "3: 1"),
        (TWO, "new, and log it", "new, and log it"),
    ],
)
def test_a_short_answer_is_spelled_out(asks: tuple[Ask, ...], said: str, meant: str) -> None:
    assert answer_text(asks, said) == meant


@given(st.text(max_size=40))
def test_any_answer_is_taken(said: str) -> None:
    assert answer_text(TWO, said) or not said.strip()


# ---- help


def test_help_and_table_name_every_verb_and_option() -> None:
    for verb in VERBS:
        assert f"| `{verb.usage}`" in verbs_markdown()
        assert f"`{verb.usage}`" in help_text()
        assert all(f"`{alias}" in help_text() for alias in verb.aliases)
    assert all(f"`{option.name}=" in help_text() for option in OPTIONS)
    assert "!" not in help_text().replace("!aside", "")


def test_the_table_has_the_verbs_that_are_promised() -> None:
    promised = (
        "help status list cancel finish pause resume retry plan diff logs cost approve reject move new mute unmute"
    )
    assert [verb.name for verb in VERBS] == [*promised.split(), "repo", "settings"]
    assert BY_WORD["stop"].name == "cancel"
