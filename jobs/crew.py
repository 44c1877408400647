"""What a turn works with; made once a process by `jobs.wiring`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from graph.ports import Halt
from graph.values import Brief
from jobs.outbox import Outbox
from jobs.settings import Settings
from jobs.tasks import Lease, Tasks


@dataclass(frozen=True)
class Crew:
    settings: Settings
    tasks: Tasks
    outbox: Outbox
    flow_for: Callable[[Lease], Any]
    """The compiled flow with a checkpoint saver that is fenced by the lease."""
    ports_for: Callable[[Lease, Brief, Halt], Any]
    """A context manager that gives `Ports`, and closes box and connections after."""
    redact: Callable[[str], str]
    now: Callable[[], float] = time.time
    warning: str = ""
