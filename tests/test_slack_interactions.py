"""Commands, buttons, the shortcut and the forms, read: what a person wants of which task."""

from __future__ import annotations

import pytest
import slackpayloads as slack
from slackpayloads import ANN, CARD, CHANNEL, DIRECT, ME, REPLY, ROOT, TRIGGER

from bot.commands import Verb, Words, parse
from bot.slack.payloads import BadPayload, Heard, keys, read

MENTION = f"<@{ME.user}>"


def heard(payload: slack.Payload) -> Heard:
    found = read(payload, ME)
    assert found is not None
    return found


# ---- commands


def test_a_slash_command_has_no_thread_and_its_words() -> None:
    found = heard(slack.command("status tw-k3f9"))
    assert (found.kind, found.thread, found.message, found.text, found.verb) == (
        "command",
        "",
        "",
        *["status tw-k3f9"] * 2,
    )
    assert (found.user, found.channel, found.response_url) == (ANN, CHANNEL, slack.URL)
    assert keys(slack.command(), ME) == [f"command/{TRIGGER}"]


def test_what_slack_escapes_in_a_command_is_read_as_it_was_typed() -> None:
    text = (
        f"{MENTION} ask <@U0BEN|ben> in <#C0DEV|dev> about <https://github.com/acme/api|acme> &amp; a &lt;T&gt; <!here>"
    )
    assert heard(slack.command(text)).text == "ask @ben in #dev about https://github.com/acme/api & a <T> @here"


def test_a_command_in_a_direct_message_is_direct() -> None:
    assert heard(slack.command(channel_id=DIRECT, channel_name="directmessage")).direct


# ---- buttons


@pytest.mark.parametrize(("payload", "verb"), [(slack.stop(), "cancel tw-k3f9"), (slack.finish(), "finish tw-k3f9")])
def test_a_button_of_the_card_is_a_verb_for_exactly_that_task(payload: slack.Payload, verb: str) -> None:
    found = heard(payload)
    assert (found.kind, found.verb, found.task, found.question) == ("button", verb, "tw-k3f9", "")
    assert (found.channel, found.thread, found.target) == (CHANNEL, ROOT, CARD)
    assert (found.user, found.response_url, found.id) == (ANN, slack.URL, f"act-{TRIGGER}")
    assert isinstance(parse(found.verb), Verb)
    assert keys(payload, ME) == [f"act/{TRIGGER}"]


def test_wrong_repository_opens_a_form_for_the_task() -> None:
    found = heard(slack.move())
    assert (found.kind, found.verb, found.task, found.thread) == ("button", "move", "tw-k3f9", ROOT)


def test_an_answer_is_the_suggestions_words_however_the_button_shows_them() -> None:
    found = heard(slack.answer("loud, with <b> & a very long explanation"))
    assert (found.question, found.text) == ("q1", "loud, with <b> & a very long explanation")
    assert found.answers == (found.text,)


def test_several_answers_are_the_chosen_numbers_with_gaps() -> None:
    found = heard(slack.answers())
    assert (found.question, found.answers, found.text) == ("q1", ("1", "", "0"), "")


def test_opening_a_link_or_choosing_without_sending_is_nothing() -> None:
    assert read(slack.press("tw_open"), ME) is None
    assert read(slack.press("tw_choose_0"), ME) is None
    assert read(slack.press("somebody_elses"), ME) is None


def test_a_button_in_a_message_for_one_person_only_has_its_thread() -> None:
    pressed = slack.stop()
    del pressed["message"]
    pressed["container"]["is_ephemeral"] = True
    assert heard(pressed).thread == ROOT


@pytest.mark.parametrize(
    "value", ["", "{", "[]", "null", '{"t": 5}', '{"t": "tw-1; cancel tw-2"}', '{"t": "TW-1"}', "[" * 100_000]
)
def test_a_button_with_a_value_of_nobodys_making_is_refused(value: str) -> None:
    with pytest.raises(BadPayload):
        read(slack.press("tw_stop", value), ME)


@pytest.mark.parametrize("n", [0, -1, 11, 10**9, "3", None, 1.5, True])
def test_an_impossible_number_of_questions_is_refused(n: object) -> None:
    pressed = slack.press("tw_answers", {"q": "q1", "n": n})
    with pytest.raises(BadPayload):
        read(pressed, ME)


# ---- the shortcut and the forms


def test_the_shortcut_opens_a_form_about_its_message() -> None:
    found = heard(slack.shortcut())
    assert (found.kind, found.verb, found.text) == ("button", "give", "the greeting is too soft")
    assert (found.channel, found.thread, found.target, found.user) == (CHANNEL, ROOT, REPLY, ANN)
    assert read({**slack.shortcut(), "callback_id": "other"}, ME) is None


def test_a_given_message_is_a_task_with_the_options_of_the_form() -> None:
    found = heard(slack.give())
    assert (found.kind, found.text) == ("give", "[repo=acme/api budget=1] greet louder")
    assert (found.channel, found.thread, found.target, found.message) == (CHANNEL, ROOT, REPLY, "")
    assert parse(found.text) == Words("greet louder", {"repo": "acme/api", "budget": "1"})
    assert keys(slack.give(), ME) == [f"act/{TRIGGER}"]


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (slack.give(repo=None, options=None), "greet louder"),
        (slack.give(repo=None), "[budget=1] greet louder"),
        (slack.give(options="[plan=ask]"), "[repo=acme/api plan=ask] greet louder"),
        (slack.give(text="a\nb "), "[repo=acme/api budget=1] a\nb"),
        (slack.give(text=""), "[repo=acme/api budget=1]"),
        (slack.give(repo='x] "y', options=""), '[repo="x] y"] greet louder'),
    ],
)
def test_a_form_says_what_a_message_would_say(form: slack.Payload, text: str) -> None:
    assert heard(form).text == text


def test_a_typed_repository_goes_before_the_chosen_one() -> None:
    form = slack.give()
    form["view"]["state"]["values"]["typed"] = {"typed": slack.typed("acme/web")}
    assert "repo=acme/web" in heard(form).text


@pytest.mark.parametrize("form", [slack.moved(), slack.moved(repo="acme/web", other=None)])
def test_a_sent_move_form_moves_that_task(form: slack.Payload) -> None:
    found = heard(form)
    assert (found.kind, found.verb, found.task) == ("move", "move acme/web tw-k3f9", "tw-k3f9")
    assert parse(found.verb) == Verb("move", ("acme/web", "tw-k3f9"))
    assert (found.channel, found.thread) == (CHANNEL, ROOT)


@pytest.mark.parametrize("named", [None, "", "web", "acme/web and drop the tables", "https://github.com/acme/web"])
def test_a_move_form_that_names_no_repository_is_no_verb(named: str | None) -> None:
    found = heard(slack.moved(other=named))
    assert (found.kind, found.verb, found.text) == ("move", "", named or "")


def test_another_form_is_nothing() -> None:
    assert read(slack.submitted("tw_other", {}), ME) is None
    assert read(slack.interaction("view_closed", view={}), ME) is None
