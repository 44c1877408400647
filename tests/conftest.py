"""Fixtures for all tests: a real Redis server of their own, started the way the program starts it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis as redis_client
from rooms import House

from graph.errors import Misconfigured
from integrations import redisserver
from jobs.settings import load
from jobs.wiring import check_sandbox


def pytest_sessionstart(session: pytest.Session) -> None:
    """Without a sandbox nothing here says much: stop, and name the knob that is missing. Nothing is skipped."""
    if not hasattr(session.config, "workerinput"):
        try:
            check_sandbox(load())
        except Misconfigured as exc:
            pytest.exit(str(exc), returncode=1)


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One server for the session (for each worker of pytest-xdist its own)."""
    home = tmp_path_factory.mktemp("redis")
    yield redisserver.ensure(home).url
    redisserver.stop(home)


@pytest.fixture
def redis(redis_url: str) -> Iterator[redis_client.Redis]:
    """A client of the session's server, whose database is empty."""
    with redisserver.connect(redis_url) as client:
        client.flushall()
        yield client


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Office, sweeper, scripted model and one worker process, shared by the tests of a session."""
    root = tmp_path_factory.mktemp("house")
    # As root, commands run as another user, who has to get through to the workspace.
    for folder in (root, root.parent, root.parent.parent):
        folder.chmod(0o755)
    house = House(root)
    yield house
    house.close()
