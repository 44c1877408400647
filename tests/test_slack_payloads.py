"""What Slack pushes, read: who did what where, and what is no concern of the bot's."""

from __future__ import annotations

import copy
import json
import time
from typing import Any

import pytest
import slackpayloads as slack
from hypothesis import given
from hypothesis import strategies as st
from slackpayloads import ANN, CARD, CHANNEL, DIRECT, EDITED, EVENT, ME, MPIM, OTHER_TEAM, REPLY, ROOT

from bot.slack.payloads import BadPayload, FileRef, Heard, Me, keys, read

MENTION = f"<@{ME.user}>"


def heard(payload: slack.Payload) -> Heard:
    found = read(payload, ME)
    assert found is not None
    return found


# ---- messages


def test_a_mention_in_a_channel_is_addressed_to_me_and_opens_its_thread() -> None:
    found = heard(slack.app_mention())
    assert (found.kind, found.id, found.channel, found.thread, found.message) == ("message", EVENT, CHANNEL, ROOT, ROOT)
    assert (found.user, found.bot, found.root, found.direct) == (ANN, False, True, False)
    assert found.mentions_me
    assert not found.mentions_others
    assert found.app_mention
    assert found.text == f"{MENTION} add retries"
    assert found.blocks[0]["type"] == "rich_text"


def test_one_mention_that_comes_as_two_events_claims_its_message_once_and_by_the_event_with_the_files() -> None:
    assert keys(slack.app_mention(), ME) == [f"event/{EVENT}"]
    assert keys(slack.message(f"{MENTION} add retries"), ME) == [f"event/{EVENT}", f"{CHANNEL}/{ROOT}"]


@pytest.mark.parametrize(
    ("channel", "kind", "direct"),
    [
        (CHANNEL, "channel", False),
        ("C0SECRET", "group", False),
        (MPIM, "mpim", False),
        (DIRECT, "im", True),
        (DIRECT, None, True),
    ],
)
def test_only_a_direct_message_to_the_bot_alone_is_direct(channel: str, kind: str | None, direct: bool) -> None:
    found = heard(slack.message(channel=channel, channel_type=kind))
    assert (found.channel, found.direct, found.mentions_me) == (channel, direct, False)


def test_a_reply_belongs_to_its_thread() -> None:
    found = heard(slack.threaded())
    assert (found.thread, found.message, found.root) == (ROOT, REPLY, False)


def test_the_first_message_of_a_thread_with_replies_is_still_its_first() -> None:
    assert heard(slack.message(thread_ts=ROOT)).root


def test_a_reply_that_is_also_sent_to_the_channel_belongs_to_its_thread() -> None:
    found = heard(slack.thread_broadcast())
    assert (found.kind, found.thread, found.root) == ("message", ROOT, False)


def test_a_message_with_a_file_names_it() -> None:
    found = heard(slack.file_share())
    url = slack.file()["url_private"]
    assert found.files == (FileRef("F0LOG", "out.log", "text/plain", 12, url),)


def test_a_file_of_another_workspace_has_only_its_id_and_a_deleted_one_is_left_out() -> None:
    files = [
        {"id": "F0EXT", "mode": "file_access", "file_access": "check_file_info"},
        {"id": "F1", "mode": "tombstone"},
    ]
    found = heard(slack.message(subtype="file_share", files=files))
    assert found.files == (FileRef("F0EXT", "file", "", 0, ""),)


def test_somebody_joining_is_nothing() -> None:
    for subtype in ("channel_join", "channel_topic", "message_replied", "huddle_thread", "reminder_add"):
        assert read(slack.message(subtype=subtype), ME) is None
        assert keys(slack.message(subtype=subtype), ME) == []


@pytest.mark.parametrize("kind", ["app_uninstalled", "tokens_revoked", "member_joined_channel", "pin_added"])
def test_other_events_are_nothing(kind: str) -> None:
    assert read(slack.event({"type": kind}), ME) is None


def test_a_certificate_check_and_other_envelopes_are_nothing() -> None:
    assert read({"ssl_check": "1", "token": "x"}, ME) is None
    assert read({"type": "url_verification", "challenge": "x"}, ME) is None
    assert read({"type": "app_rate_limited", "team_id": ME.team}, ME) is None


# ---- whom it mentions


@pytest.mark.parametrize(
    ("text", "me", "others"),
    [
        ("add retries", False, False),
        (f"please {MENTION} add retries", True, False),
        (f"<@{ME.user}|threadwright> add retries", True, False),
        (f"{MENTION}, and <@{slack.BEN}> knows more", True, True),
        (f"<@{slack.BEN}> what do you think?", False, True),
        ("<@W0ENTERPRISE|ben>: look", False, True),
        ("<!subteam^S0TEAM|@backend> look", False, True),
        ("<!here> look", False, True),
        ("<!channel|@channel> look", False, True),
        ("<!date^1392734382^{date}|today> is the day", False, False),
        (f"&lt;@{ME.user}&gt; is what I typed", False, False),
        (f"<@{ME.user}X> is somebody else", False, True),
    ],
)
def test_mentions_in_the_text_are_found(text: str, me: bool, others: bool) -> None:
    found = heard(slack.message(text, blocks=None))
    assert (found.mentions_me, found.mentions_others) == (me, others)


def test_mentions_deep_in_rich_text_are_found() -> None:
    quote = {"type": "rich_text_quote", "elements": [slack.words("hi "), slack.mention()]}
    group = {"type": "usergroup", "usergroup_id": "S0TEAM"}
    nested = {"type": "rich_text_list", "elements": [{"type": "rich_text_section", "elements": [group]}]}
    found = heard(slack.message("hi", blocks=[{"type": "rich_text", "elements": [quote, nested]}]))
    assert (found.mentions_me, found.mentions_others) == (True, True)


def test_a_mention_in_a_bots_section_is_found_and_one_in_literal_text_is_not() -> None:
    def section(kind: str) -> list[slack.Payload]:
        return [{"type": "section", "text": {"type": kind, "text": MENTION}}]

    assert heard(slack.by_app(blocks=section("mrkdwn"))).mentions_me
    assert not heard(slack.by_app(blocks=section("plain_text"))).mentions_me


# ---- by whom


@pytest.mark.parametrize(
    "own",
    [
        slack.message(user=ME.user),
        slack.message(user=ME.user, bot_id=ME.bot),
        slack.bot_message(bot_id=ME.bot),
        slack.bot_message(bot_id="B0OTHER", app_id=ME.app),
        slack.by_app(app_id=None, bot_profile={"id": "B1", "app_id": ME.app}),
        slack.edited(user=ME.user),
        slack.edited(by=ME.user),
        slack.edited(bot_id=ME.bot),
        slack.deleted(previous_message=slack.said(user=ME.user, bot_id=ME.bot)),
        slack.reaction(user=ME.user),
    ],
)
def test_what_the_bot_does_itself_is_nothing(own: slack.Payload) -> None:
    assert read(own, ME) is None


def test_not_knowing_my_bot_or_app_id_makes_nobody_me() -> None:
    bare = Me(ME.user, "", ME.team)
    assert read(slack.message(bot_id="", app_id=""), bare) is not None
    assert read(slack.by_app(), bare) is not None


def test_another_bot_is_a_bot_with_all_its_ids() -> None:
    webhook, app = heard(slack.bot_message()), heard(slack.by_app())
    assert (webhook.bot, webhook.user, webhook.bot_ids) == (True, slack.ROBOT_ID, (slack.ROBOT_ID, "A0ROBOT"))
    assert (app.bot, app.user, app.bot_ids) == (True, slack.ROBOT, (slack.ROBOT, slack.ROBOT_ID, "A0ROBOT"))
    assert heard(slack.message(user="USLACKBOT")).bot


@pytest.mark.parametrize(
    "fields",
    [
        {"user_team": OTHER_TEAM},
        {"source_team": OTHER_TEAM},
        {"team": OTHER_TEAM},
        {"user_profile": {"team": OTHER_TEAM}},
    ],
)
def test_somebody_of_another_workspace_is_told_from_us(fields: dict[str, Any]) -> None:
    assert heard(slack.message(**fields)).foreign_team == OTHER_TEAM
    assert heard(slack.message()).foreign_team == ""


def test_a_stranger_who_presses_or_commands_is_told_from_us() -> None:
    pressed = slack.stop()
    pressed["user"]["team_id"] = OTHER_TEAM
    assert heard(pressed).foreign_team == OTHER_TEAM
    assert heard(slack.command(team_id=OTHER_TEAM)).foreign_team == OTHER_TEAM
    assert heard(slack.stop()).foreign_team == heard(slack.command()).foreign_team == ""


# ---- edits and deletions


def test_an_edit_carries_the_new_words_and_what_it_is_about() -> None:
    found = heard(slack.edited())
    assert (found.kind, found.text, found.target, found.message) == ("edit", "add two retries", ROOT, ROOT)
    assert found.id == f"edit-{CHANNEL}-{ROOT}-{EDITED}"
    assert keys(slack.edited(), ME) == [f"event/{EVENT}", f"{CHANNEL}/{ROOT}/edit/{EDITED}"]


def test_an_edit_that_is_found_later_by_reading_the_thread_is_the_same_edit() -> None:
    found = slack.edited()
    del found["event"]["previous_message"]
    assert heard(found).id == heard(slack.edited()).id


def test_an_edit_that_adds_a_mention_is_an_edit_that_mentions_me() -> None:
    found = heard(slack.edited(f"{MENTION} add two retries"))
    assert (found.kind, found.mentions_me) == ("edit", True)


def test_the_mention_that_slack_sends_again_after_an_edit_is_nothing() -> None:
    assert read(slack.app_mention(edited={"user": ANN, "ts": EDITED}), ME) is None


def test_a_link_preview_is_no_edit() -> None:
    assert read(slack.unfurled(), ME) is None


def test_a_preview_after_an_edit_is_no_second_edit() -> None:
    marked = slack.said("new", edited={"user": ANN, "ts": EDITED})
    assert read(slack.changed({**marked, "attachments": [{"id": 1}]}, marked), ME) is None


def test_an_edit_that_changes_no_word_is_nothing_though_slack_names_the_blocks_anew() -> None:
    marked = slack.said(edited={"user": ANN, "ts": EDITED}, blocks=slack.rich(slack.words("add retries"), block_id="n"))
    assert read(slack.changed(marked, slack.said()), ME) is None


def test_an_edit_of_the_formatting_alone_is_an_edit() -> None:
    struck = slack.rich({**slack.words("add retries"), "style": {"strike": True}})
    marked = slack.said(edited={"user": ANN, "ts": EDITED}, blocks=struck)
    assert heard(slack.changed(marked, slack.said())).kind == "edit"


def test_a_deletion_names_the_message_its_thread_and_its_writer() -> None:
    found = heard(slack.deleted())
    assert (found.kind, found.target, found.thread, found.user, found.root) == ("delete", REPLY, ROOT, ANN, False)
    assert keys(slack.deleted(), ME) == [f"event/{EVENT}", f"{CHANNEL}/{REPLY}/delete"]


def test_a_deletion_that_does_not_tell_whose_message_it_was_is_still_one() -> None:
    found = heard(slack.deleted(previous_message=None))
    assert (found.kind, found.target, found.thread, found.user) == ("delete", REPLY, REPLY, "")


def test_a_deleted_message_with_replies_is_deleted_though_a_stone_stays() -> None:
    found = heard(slack.tombstone())
    assert (found.kind, found.target, found.thread, found.user) == ("delete", ROOT, ROOT, ANN)
    assert keys(slack.tombstone(), ME) == [f"event/{EVENT}", f"{CHANNEL}/{ROOT}/delete"]


# ---- reactions


@pytest.mark.parametrize(
    ("name", "means"),
    [
        ("white_check_mark", "approve"),
        ("heavy_check_mark", "approve"),
        ("x", "reject"),
        ("octagonal_sign", "stop"),
        ("+1", "+1"),
        ("+1::skin-tone-4", "+1"),
        ("negative_squared_cross_mark", "negative_squared_cross_mark"),
        ("ballot_box_with_check", "ballot_box_with_check"),
    ],
)
def test_reactions_have_our_meaning_or_their_own_name(name: str, means: str) -> None:
    found = heard(slack.reaction(name))
    assert (found.kind, found.reaction, found.target, found.user) == ("reaction", means, CARD, ANN)
    assert keys(slack.reaction(name), ME) == [f"event/{EVENT}"]


def test_a_reaction_that_is_taken_back_is_heard() -> None:
    assert heard(slack.reaction(kind="reaction_removed")).kind == "unreaction"


def test_a_reaction_on_a_file_is_nothing() -> None:
    assert read(slack.reaction(item={"type": "file", "file": "F0LOG"}), ME) is None


# ---- hostile input


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


def understood(payload: Any) -> Heard | None:
    """What is heard; None if it is refused or nothing. Any other exception fails the test."""
    try:
        found, known = read(payload, ME), keys(payload, ME)
    except BadPayload:
        return None
    assert bool(known) == (found is not None)
    assert len(set(known)) == len(known)
    assert all(key.isascii() and key.isprintable() for key in known)
    return found


@given(JSON)
def test_anything_at_all_is_heard_nothing_or_refused(payload: Any) -> None:
    understood(payload)


@given(st.data())
def test_a_sample_with_a_field_missing_or_of_another_kind_is_heard_nothing_or_refused(data: st.DataObject) -> None:
    payload = copy.deepcopy(data.draw(st.sampled_from(list(slack.SAMPLES.values())))())
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(list(slack.spots(payload))))
        place = payload
        for step in path[:-1]:
            place = place[step]
        if data.draw(st.booleans()):
            del place[path[-1]]
        else:
            place[path[-1]] = data.draw(JSON)
        if not payload:
            break
    found = understood(payload)
    if found is not None:
        assert found.channel
        assert found.user or found.kind == "delete"
        hash((found.id, found.channel, found.thread, found.message, found.user, found.target, found.verb, found.task))
        found.text.encode()


@pytest.mark.parametrize("name", slack.SAMPLES)
def test_control_every_sample_itself_is_heard_but_the_preview(name: str) -> None:
    assert (understood(slack.SAMPLES[name]()) is None) == (name == "unfurled")


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (slack.message, ("event", "channel")),
        (slack.message, ("event", "user")),
        (slack.message, ("event", "ts")),
        (slack.message, ("event_id",)),
        (slack.edited, ("event_id",)),
        (slack.edited, ("event", "message")),
        (slack.edited, ("event", "message", "edited", "ts")),
        (slack.deleted, ("event", "deleted_ts")),
        (slack.reaction, ("event", "item")),
        (slack.reaction, ("event", "user")),
        (slack.command, ("user_id",)),
        (slack.command, ("trigger_id",)),
        (slack.stop, ("user",)),
        (slack.answers, ("actions",)),
        (slack.give, ("view", "private_metadata")),
        (slack.give, ("user", "id")),
    ],
)
def test_a_payload_without_what_it_must_have_is_refused(make: Any, path: tuple[str, ...]) -> None:
    payload = make()
    place = payload
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    with pytest.raises(BadPayload):
        read(payload, ME)
    with pytest.raises(BadPayload):
        keys(payload, ME)


@pytest.mark.parametrize(
    "bad",
    ["../../etc", "C0 X", "c0general", "C0/1", "C\n", "Ç0", "", "C" * 500],
    ids=["path", "space", "low", "slash", "line", "letter", "empty", "long"],
)
def test_an_id_that_could_be_mistaken_for_something_else_is_refused(bad: str) -> None:
    with pytest.raises(BadPayload):
        read(slack.message(channel=bad), ME)


def test_half_a_character_is_refused_before_it_is_stored() -> None:
    with pytest.raises(BadPayload):
        read(slack.message(json.loads('"\\ud800"')), ME)


def test_a_huge_message_is_read_in_time_and_in_full() -> None:
    text = f"{'<@U0BEN|' * 40_000} {MENTION}"
    blocks: Any = [slack.mention()]
    for _ in range(20_000):
        blocks = [{"type": "rich_text", "elements": blocks}]
    began = time.monotonic()
    found = heard(slack.message(text, blocks=blocks * 3))
    edit = heard(slack.changed(slack.said(text, blocks=blocks, edited={"user": ANN, "ts": EDITED}), slack.said()))
    assert time.monotonic() - began < 5
    assert found.text == text
    assert found.mentions_me
    assert edit.mentions_me
