"""Who may: what Slack says of somebody, and what happens when it says nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import slackpayloads as slack
import slackserver as stub_slack
from hypothesis import given
from hypothesis import strategies as st
from slackpayloads import ANN, BEN, CHANNEL, ME, OTHER_TEAM, ROBOT, ROBOT_ID, STRANGER, TEAM, SmallSlack, person

from bot.chat import TryLater
from bot.slack.payloads import Heard, Me, read
from bot.slack.people import CACHE_SECONDS, LOOK_UPS, People
from bot.slack.web import Web


@dataclass
class Clock:
    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


def heard(payload: slack.Payload) -> Heard:
    found = read(payload, ME)
    assert found is not None
    return found


def standing(info: slack.Payload, payload: slack.Payload | None = None, **allowed: tuple[str, ...]) -> str:
    message = heard(payload or slack.message(user=info["id"]))
    return People(SmallSlack(info), ME, **allowed).author(message).standing


def test_a_member_is_one_and_has_the_name_that_people_see() -> None:
    author = People(SmallSlack(person(ANN)), ME).author(heard(slack.message()))
    assert (author.id, author.name, author.standing) == (f"slack:{TEAM}:{ANN}", "Ann", "member")


@pytest.mark.parametrize(
    ("facts", "what"),
    [
        ({"is_restricted": True}, "guest"),
        ({"is_restricted": True, "is_ultra_restricted": True}, "guest"),
        ({"is_stranger": True, "team_id": OTHER_TEAM}, "outsider"),
        ({"is_stranger": True}, "outsider"),
        ({"team_id": OTHER_TEAM}, "outsider"),
        ({"team_id": None}, "outsider"),
        ({"team_id": ["T0123TEAM"]}, "outsider"),
        ({"is_bot": True}, "bot"),
        ({"is_workflow_bot": True}, "bot"),
        ({"deleted": True}, "unknown"),
        ({"deleted": None}, "unknown"),
        ({"is_restricted": None}, "unknown"),
        ({"is_ultra_restricted": "false"}, "unknown"),
        ({"is_bot": 0}, "unknown"),
        ({"is_admin": True, "is_owner": True}, "member"),
        ({"is_app_user": True}, "member"),
    ],
)
def test_who_is_no_full_member_is_none(facts: dict[str, Any], what: str) -> None:
    assert standing(person(ANN, **facts)) == what


def test_slackbot_is_a_bot_though_slack_denies_it() -> None:
    pressed = slack.stop()
    pressed["user"]["id"] = "USLACKBOT"
    assert standing(person("USLACKBOT"), pressed) == "bot"
    assert standing(person("USLACKBOT"), slack.message(user="USLACKBOT")) == "bot"


def test_a_message_from_another_workspace_makes_an_outsider_whatever_the_look_up_says() -> None:
    assert standing(person(ANN), slack.message(user_team=OTHER_TEAM)) == "outsider"


def test_in_an_enterprise_organisation_a_person_of_several_workspaces_is_at_home_in_each() -> None:
    enterprise = {"enterprise_id": "E0ORG", "teams": [OTHER_TEAM, TEAM]}
    assert standing(person(ANN, team_id=OTHER_TEAM, enterprise_user=enterprise)) == "member"
    assert standing(person(ANN, enterprise_user=enterprise), slack.message(user_team="E0ORG")) == "member"
    elsewhere = {"enterprise_id": "E0ORG", "teams": [OTHER_TEAM]}
    assert standing(person(ANN, team_id=OTHER_TEAM, enterprise_user=elsewhere)) == "outsider"
    assert standing(person(ANN, enterprise_user=elsewhere), slack.message(user_team="E0ORG")) == "outsider"


@pytest.mark.parametrize(
    "facts", [{"is_restricted": True}, {"is_stranger": True, "team_id": OTHER_TEAM}, {"is_ultra_restricted": True}]
)
def test_guests_and_strangers_who_are_allowed_count_as_members_until_their_account_ends(facts: dict[str, Any]) -> None:
    info = person(STRANGER, **facts)
    assert standing(info, allowed_people=(STRANGER,)) == "member"
    assert standing(info, allowed_people=(ANN,)) != "member"
    assert standing({**info, "deleted": True}, allowed_people=(STRANGER,)) == "unknown"
    assert standing({**info, "is_bot": True}, allowed_people=(STRANGER,)) == "bot"


@pytest.mark.parametrize("allowed", [ROBOT, ROBOT_ID, "A0ROBOT"])
def test_a_bot_that_is_allowed_by_any_of_its_ids_counts_as_a_member(allowed: str) -> None:
    message = heard(slack.by_app())
    assert People(SmallSlack(), ME, allowed_bots=(allowed,)).author(message).standing == "member"
    assert People(SmallSlack(), ME, allowed_bots=("B0OTHER",)).author(message).standing == "bot"
    foreign = heard(slack.by_app(team=OTHER_TEAM))
    assert People(SmallSlack(), ME, allowed_bots=(allowed,)).author(foreign).standing == "bot"


def test_an_allowed_bot_that_reacts_is_known_by_its_profile() -> None:
    profile = {"bot_id": ROBOT_ID, "api_app_id": "A0ROBOT", "real_name": "CI"}
    info = person(ROBOT, is_bot=True, profile=profile)
    assert standing(info, slack.reaction(user=ROBOT), allowed_bots=("A0ROBOT",)) == "member"
    assert standing(info, slack.reaction(user=ROBOT)) == "bot"
    assert standing({**info, "team_id": OTHER_TEAM}, slack.reaction(user=ROBOT), allowed_bots=("A0ROBOT",)) == "bot"


def test_a_bot_is_not_looked_up() -> None:
    web = SmallSlack()
    assert People(web, ME).author(heard(slack.bot_message())).standing == "bot"
    assert web.calls == []


def test_somebody_whom_slack_does_not_know_is_unknown_which_means_no() -> None:
    people = People(SmallSlack(), ME, allowed_people=(ANN,))
    author = people.author(heard(slack.message()))
    assert (author.standing, author.name) == ("unknown", ANN)


def test_a_deletion_by_nobody_known_is_by_somebody_unknown() -> None:
    author = People(SmallSlack(), ME).author(heard(slack.deleted(previous_message=None)))
    assert (author.standing, author.name) == ("unknown", "somebody")


def test_an_answer_about_somebody_else_is_no_answer() -> None:
    web = SmallSlack(person(ANN))
    web.people[BEN] = person(ANN)
    assert People(web, ME).author(heard(slack.message(user=BEN))).standing == "unknown"


def test_when_slack_cannot_be_asked_now_it_is_asked_again_and_nobody_is_taken_for_a_stranger() -> None:
    web = SmallSlack(person(ANN))
    web.trouble = [TryLater("Slack asks to wait 3 s before users.info.", 3)]
    people = People(web, ME)
    with pytest.raises(TryLater):
        people.author(heard(slack.message()))
    assert people.author(heard(slack.message())).standing == "member"


def test_somebody_is_looked_up_once_in_five_minutes_and_then_again() -> None:
    clock = Clock()
    web = SmallSlack(person(ANN))
    people = People(web, ME, clock=clock)
    for _ in range(3):
        assert people.author(heard(slack.message())).standing == "member"
    assert len(web.calls) == 1
    web.people[ANN] = person(ANN, is_restricted=True)
    clock.now += CACHE_SECONDS - 0.1
    assert people.author(heard(slack.message())).standing == "member"
    clock.now += 0.2
    assert people.author(heard(slack.message())).standing == "guest"


def test_a_failed_look_up_is_not_remembered() -> None:
    web = SmallSlack()
    people = People(web, ME)
    assert people.author(heard(slack.message())).standing == "unknown"
    web.people[ANN] = person(ANN)
    assert people.author(heard(slack.message())).standing == "member"


ANY = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.text(max_size=3), max_size=2)


@given(st.sampled_from(sorted(person(ANN))), ANY)
def test_an_odd_answer_never_makes_a_member_of_one_who_was_none(field: str, value: Any) -> None:
    for facts in ({"is_restricted": True, "is_ultra_restricted": True}, {"is_bot": True}, {"deleted": True}):
        if field not in facts:
            info = {**person(ANN, **facts), field: value}
            assert People(Fixed(info), ME).author(heard(slack.message())).standing != "member"


@given(st.dictionaries(st.sampled_from(["user", "channel", "ok"]), ANY | st.dictionaries(st.just("id"), ANY)))
def test_an_answer_that_makes_no_sense_makes_nobody_a_member(answer: dict[str, Any]) -> None:
    class Senseless(SmallSlack):
        def call(self, method: str, **arguments: Any) -> dict[str, Any]:
            return answer

    people = People(Senseless(), ME)
    assert people.author(heard(slack.message())).standing == "unknown"
    assert people.names([ANN, CHANNEL]) == {}
    assert people.shared(CHANNEL)


class Fixed(SmallSlack):
    """Says the same of everybody."""

    def __init__(self, info: slack.Payload) -> None:
        super().__init__()
        self.info = info

    def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        return {"ok": True, "user": self.info}


# ---- names


def test_people_and_channels_have_names_and_what_slack_does_not_tell_has_none() -> None:
    web = SmallSlack(person(ANN), person(BEN, profile={"display_name": "", "real_name": "Ben Doe"}))
    web.channels[CHANNEL] = slack.channel()
    names = People(web, ME).names([ANN, BEN, CHANNEL, "S0TEAM", "U0NOBODY", "here", ANN])
    assert names == {ANN: "Ann", BEN: "Ben Doe", CHANNEL: "general"}
    assert ("users.info", "S0TEAM") not in web.calls


def test_a_name_cannot_break_lines_or_turn_the_text_around() -> None:
    web = SmallSlack(person(ANN, profile={"display_name": "A\u202enn\n# Heading " + "x" * 500}))
    name = People(web, ME).names([ANN])[ANN]
    assert "\n" not in name
    assert "\u202e" not in name
    assert len(name) <= 80


def test_names_are_worth_no_waiting() -> None:
    web = SmallSlack(person(ANN), person(BEN))
    people = People(web, ME)
    people.names([BEN])
    web.trouble = [TryLater("Slack asks to wait 60 s before users.info.", 60)]
    assert people.names([ANN, "U0NEXT", BEN]) == {BEN: "Ben"}
    assert len(web.calls) == 2


def test_a_message_that_mentions_thousands_asks_for_some_of_them() -> None:
    web = SmallSlack()
    People(web, ME).names(f"U{n}" for n in range(5_000))
    assert len(web.calls) == LOOK_UPS


# ---- channels


@pytest.mark.parametrize(
    ("info", "shared"),
    [
        (slack.channel(), False),
        (slack.channel(is_ext_shared=True), True),
        (slack.channel(is_ext_shared=None), True),
        ({"id": CHANNEL, "is_im": True, "user": ANN}, False),
        ({"id": CHANNEL}, True),
        ({"id": "C0OTHER", "is_ext_shared": False}, True),
    ],
)
def test_a_channel_counts_as_shared_unless_slack_says_that_it_is_not(info: slack.Payload, shared: bool) -> None:
    web = SmallSlack()
    web.channels[CHANNEL] = info
    assert People(web, ME).shared(CHANNEL) is shared


def test_a_channel_is_looked_up_once() -> None:
    web = SmallSlack(channels=(slack.channel(),))
    people = People(web, ME)
    assert [people.shared(CHANNEL) for _ in range(3)] == [False] * 3
    assert len(web.calls) == 1


# ---- over a socket


@pytest.fixture
def stub() -> Iterator[stub_slack.SlackServer]:
    with stub_slack.SlackServer() as server:
        yield server


def test_the_people_of_a_workspace_are_what_its_web_api_says(stub: stub_slack.SlackServer) -> None:
    me = Me(stub_slack.BOT, stub_slack.BOT_ID, stub_slack.TEAM)
    people = People(Web(stub.bot_token, base_url=stub.url), me)
    expected = {
        stub_slack.ANN: "member",
        stub_slack.GUEST: "guest",
        stub_slack.SOLO: "guest",
        stub_slack.STRANGER: "outsider",
        stub_slack.GONE: "unknown",
        stub_slack.ROBOT: "bot",
        "U0NOBODY": "unknown",
    }
    seen = heard(slack.message(team=None))
    assert {user: people.author(replace(seen, user=user)).standing for user in expected} == expected
    assert (people.shared(stub_slack.GENERAL), people.shared(stub_slack.SHARED)) == (False, True)
    assert people.shared(stub.dm(stub_slack.ANN)) is False
