"""The supervisor of worker processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rooms import House

from jobs.settings import environment
from jobs.workers import HASTY_DEATHS, Workers


def wait(true: Callable[[], object], seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


class Hopeless(Workers):
    """Workers that end at once."""

    hasty_seconds = 0.3
    started = 0

    def _spawn(self) -> subprocess.Popen[bytes]:
        self.started += 1
        return subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"], stdin=subprocess.DEVNULL)


def test_workers_that_die_at_once_are_not_started_for_ever(house: House) -> None:
    with Hopeless(house.settings, 1) as workers:
        assert wait(lambda: workers.broken)
        assert workers.started == HASTY_DEATHS
        assert workers.pids == []


def test_a_worker_whose_starter_is_gone_ends_by_itself(house: House) -> None:
    env = {**os.environ, **environment(house.settings)}
    nobody = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    done = subprocess.run(
        [sys.executable, "-m", "bot", "worker", "--parent", nobody.stdout.decode().strip()],
        env=env,
        cwd=Path(__file__).parents[1],
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_worker_that_dies_is_replaced(house: House) -> None:
    [pid] = house.workers.pids
    os.kill(pid, 9)
    assert wait(lambda: house.workers.pids and house.workers.pids != [pid])
