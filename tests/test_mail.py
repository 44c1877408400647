"""What a platform pushed is stored once, read in order by one process, and gone when it is dealt with."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import redis as redis_module
from boxes import wait_until

from bot.chat import DeskClosed, Letter, Place, TryLater
from bot.slack.reading import Reader
from integrations import redisserver
from integrations.redaction import Redactor
from jobs.mail import RedisMail
from jobs.tasks import Tasks

TOKEN = "ghp_" + "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8"


@pytest.fixture
def mail(redis: redis_module.Redis) -> RedisMail:
    return post_office(redis)


def post_office(redis: redis_module.Redis, seconds: float = 5.0) -> RedisMail:
    return RedisMail(Tasks(redis, lease_seconds=5), "slack", "T1", redact=Redactor(()).redact, reading_seconds=seconds)


def test_a_letter_waits_until_it_is_dealt_with(mail: RedisMail, redis: redis_module.Redis) -> None:
    assert mail.keep(["event/E1"], {"n": 1})
    [letter] = mail.waiting() or ()
    assert (letter.payload, letter.tries) == ({"n": 1}, 0)
    mail.begin(letter.id)
    mail.sole.let_go()
    [again] = post_office(redis).waiting() or ()
    assert again.tries == 1
    mail.done(letter.id)
    assert mail.waiting() is None, "another process reads now"


def test_what_comes_twice_is_kept_once_whichever_key_is_known(mail: RedisMail) -> None:
    assert mail.keep(["event/E1", "C1/17.1"], {"n": 1})
    assert not mail.keep(["event/E1"], {"n": 1})
    assert not mail.keep(["event/E2", "C1/17.1"], {"n": 1})
    assert len(mail.waiting() or ()) == 1
    assert mail.came("C1/17.1")
    assert not mail.came("C1/17.2")


def test_it_is_known_after_it_was_dealt_with(mail: RedisMail) -> None:
    mail.keep(["event/E1"], {"n": 1})
    [letter] = mail.waiting() or ()
    mail.done(letter.id)
    assert not mail.keep(["event/E1"], {"n": 1})
    assert mail.waiting() == []


def test_only_one_process_reads_and_another_goes_on_when_it_dies(redis: redis_module.Redis) -> None:
    first, second = post_office(redis, 0.2), post_office(redis, 0.2)
    first.keep(["event/E1"], {"n": 1})
    assert first.waiting()
    assert second.waiting() is None
    wait_until(second.waiting, 5)


def test_a_pasted_token_is_not_kept_and_its_kind_is_remembered(mail: RedisMail, redis: redis_module.Redis) -> None:
    url = "https://hooks.example.com/commands/T1/abc/" + TOKEN
    mail.keep(["event/E1"], {"event": {"text": f"use {TOKEN}", "blocks": [{"text": TOKEN}]}, "response_url": url})
    [letter] = mail.waiting() or ()
    assert letter.payload["response_url"] == url
    assert letter.secrets == ("GitHub token",)
    assert TOKEN not in json.dumps(letter.payload["event"])
    assert not any(TOKEN.encode() in bytes(redis.dump(key) or b"") for key in redis.keys("tw:mailed:*"))


def test_a_letter_without_a_key_is_refused(mail: RedisMail) -> None:
    with pytest.raises(ValueError, match="as often as it is sent"):
        mail.keep([], {})


def test_a_signed_request_is_taken_once_unless_it_was_not_stored(mail: RedisMail) -> None:
    assert mail.first("v0=1")
    assert not mail.first("v0=1")
    mail.unseen("v0=1")
    assert mail.first("v0=1")


def test_the_cursor_of_a_thread_only_moves_on(mail: RedisMail) -> None:
    place = Place("slack", "T1", "C1", "17.1")
    assert mail.read_to(place) == ""
    for message in ("1700000000.000200", "1700000000.000100", "1700000000.000300"):
        mail.has_read(place, message)
    assert mail.read_to(place) == "1700000000.000300"


def test_what_cannot_be_stored_is_refused() -> None:
    with redisserver.connect("redis://127.0.0.1:1/0", retries=0) as client, pytest.raises(DeskClosed):
        post_office(client).keep(["event/E1"], {})


# ---- the reader


class Clerk:
    """Deals with letters as a test says, and writes down which."""

    def __init__(self, does: Callable[[Letter], float] = lambda _: 0.0) -> None:
        self.done: list[str] = []
        self.busy: set[str] = set()
        self.together = 0
        self._does = does
        self._lock = threading.Lock()

    def lane(self, letter: Letter) -> str:
        return str(letter.payload["lane"])

    def order(self, letter: Letter) -> str:
        return str(letter.payload["ts"])

    def handle(self, letter: Letter) -> float:
        lane = self.lane(letter)
        with self._lock:
            assert lane not in self.busy, "two letters of a lane at once"
            self.busy.add(lane)
            self.together = max(self.together, len(self.busy))
        try:
            again = self._does(letter)
        finally:
            with self._lock:
                self.busy.remove(lane)
        if not again:
            self.done.append(f"{lane}{letter.payload['ts']}")
        return again


@contextmanager
def reading(mail: RedisMail, clerk: Clerk) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=Reader(mail, clerk).run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)
        assert not thread.is_alive()


def keep(mail: RedisMail, lane: str, ts: int) -> None:
    mail.keep([f"{lane}/{ts}"], {"lane": lane, "ts": ts})


def test_letters_of_a_thread_are_read_in_the_order_in_which_they_were_said(mail: RedisMail) -> None:
    for ts in (3, 1, 2):
        keep(mail, "a", ts)
    clerk = Clerk()
    with reading(mail, clerk):
        wait_until(lambda: len(clerk.done) == 3)
    assert clerk.done == ["a1", "a2", "a3"]


def test_a_thread_that_has_to_wait_does_not_hold_back_the_others(mail: RedisMail) -> None:
    free = threading.Event()

    def does(letter: Letter) -> float:
        if letter.payload["lane"] == "a" and not free.is_set():
            raise TryLater("slow down", 0.02)
        return 0.0

    clerk = Clerk(does)
    for ts in (1, 2):
        keep(mail, "a", ts)
        keep(mail, "b", ts)
    with reading(mail, clerk):
        wait_until(lambda: clerk.done == ["b1", "b2"])
        free.set()
        wait_until(lambda: len(clerk.done) == 4)
    assert clerk.done[2:] == ["a1", "a2"]


def test_a_letter_that_waits_for_another_comes_again(mail: RedisMail) -> None:
    pauses = iter([0.02, 0.02, 0.0])
    clerk = Clerk(lambda _: next(pauses))
    keep(mail, "a", 1)
    with reading(mail, clerk):
        wait_until(lambda: clerk.done == ["a1"])
        wait_until(lambda: mail.waiting() == [])


def test_a_letter_that_breaks_every_time_is_told_and_does_not_hold_up_its_thread(
    mail: RedisMail, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.slack.reading.AGAIN_SECONDS", 0.01)

    def does(letter: Letter) -> float:
        if letter.payload["ts"] == 1:
            raise ZeroDivisionError("nobody foresaw this")
        return 0.0

    clerk = Clerk(does)
    keep(mail, "a", 1)
    keep(mail, "a", 2)
    with reading(mail, clerk):
        wait_until(lambda: clerk.done == ["a2"])
    assert "nobody foresaw this" in caplog.text
    assert "left out after 6 tries" in caplog.text


def test_threads_are_read_side_by_side(mail: RedisMail) -> None:
    meet = threading.Barrier(3, timeout=10)
    clerk = Clerk(lambda _: float(meet.wait() < 0))
    for lane in "abc":
        keep(mail, lane, 1)
    with reading(mail, clerk):
        wait_until(lambda: len(clerk.done) == 3)
    assert clerk.together == 3


def test_what_a_dead_reader_had_begun_is_done_by_the_next(redis: redis_module.Redis) -> None:
    first = post_office(redis, 0.2)
    keep(first, "a", 1)
    [letter] = first.waiting() or ()
    first.begin(letter.id)
    clerk, second = Clerk(), post_office(redis, 0.2)
    with reading(second, clerk):
        wait_until(lambda: clerk.done == ["a1"])
        wait_until(lambda: redis.xlen("tw:mail:slack/T1") == 0)
    assert redis.hlen("tw:mail-tries:slack/T1") == 0
