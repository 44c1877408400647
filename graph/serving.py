"""Services that a repository's checks need: started in the box, waited for, and alive as long as the box is."""

from __future__ import annotations

import time
from collections.abc import Sequence

from graph.ports import Box, Ports
from graph.project import Service
from graph.prompting import clipped
from graph.values import Outcome

_TRY = 5.0
"""Seconds that one `ready` command may take."""
_PAUSE = 0.2
_LOG = 2_000


def serve(ports: Ports, box: Box, services: Sequence[Service]) -> str:
    """See to it that all run and are ready, one after the other; "" or why one is not, in plain words with its log.

    Cheap when they are: a service that has ended is started again. Raises Stopped.
    """
    for service in services:
        if problem := _ready(ports, box, service):
            ports.journal.note("service", name=service.name, problem=clipped(problem, 500))
            return problem
    return ""


def _ready(ports: Ports, box: Box, service: Service) -> str:
    deadline = time.monotonic() + service.seconds
    box.serve(service.name, service.start)
    while True:
        ports.halt.check()
        ended = box.served(service.name)
        if ended is not None:
            return f"the service {service.name} {_end(ended)}"
        # Asked anew each time, since it may have hung itself up since the last check.
        ready = box.run(service.ready, timeout=_TRY)
        if ready.exit == 0:
            return ""
        if time.monotonic() >= deadline:
            said = f": {_tail(ready.output)}" if ready.output.strip() else ""
            return f"the service {service.name} was not ready within {service.seconds:g} s{said}"
        time.sleep(_PAUSE)


def _end(outcome: Outcome) -> str:
    end = f"exit {outcome.exit}" if outcome.ended == "exit" else outcome.ended
    said = f": {_tail(outcome.output)}" if outcome.output.strip() else ""
    return f"ended by itself ({end}); its command has to stay in the foreground{said}"


def _tail(output: str) -> str:
    return output.strip()[-_LOG:]
