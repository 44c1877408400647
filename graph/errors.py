"""The one error tree. Vendor errors are translated into it once, at the edge.

The only broad `except` is the turn runner's.

ThreadwrightError
├── Refused                 it may not be or cannot be; the message is for a person, in plain words, and says what to do
│   ├── BadInput            what a person or a file said is not understood
│   ├── RepositoryProblem   missing, empty, forbidden, not a repository
│   ├── TreeRefused         what came out of the sandbox may not become a commit
│   ├── PushRefused         the forge's side did not take the branch
│   └── MergeRefused        conflict, checks, moved head
├── Unavailable             an outside system does not answer now; trying again later is right
│   ├── ModelUnavailable    carries `retry_after` seconds when the server named them
│   ├── StoreUnavailable    Redis is down, full, or refuses to write
│   └── ForgeUnavailable
├── StoreDamaged            what was stored is not whole; trying again is of no use
├── ModelMisbehaved         malformed answers, three in a row; or the provider would not answer
├── ContextTooLong          the conversation does not fit the model's window: shorten it, then call again
├── SandboxFailed           the box could not be opened, or died
├── LeaseLost               another worker owns the task now: write nothing more
├── Stopped                 a person stopped the task, or the worker is going down
└── Misconfigured           a setting is wrong, or a part of the machine is missing; for the operator, with the remedy
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graph.values import Usage


class ThreadwrightError(Exception):
    """Base of all errors of ours. `str(error)` is a sentence that a person can read."""


class Refused(ThreadwrightError):
    pass


class BadInput(Refused):
    pass


class RepositoryProblem(Refused):
    pass


class TreeRefused(Refused):
    """`paths`: the offending paths, printable. `protected`: they may leave after a person's explicit yes."""

    def __init__(self, message: str, paths: tuple[str, ...] = (), *, protected: bool = False) -> None:
        super().__init__(message)
        self.paths = paths
        self.protected = protected


class PushRefused(Refused):
    pass


class MergeRefused(Refused):
    pass


class Unavailable(ThreadwrightError):
    pass


class ModelUnavailable(Unavailable):
    usage: Usage | None = None
    """Of the answers that came before, in the same `decide`; so in the other errors of the model."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class StoreUnavailable(Unavailable):
    pass


class ForgeUnavailable(Unavailable):
    pass


class StoreDamaged(ThreadwrightError):
    pass


class ModelMisbehaved(ThreadwrightError):
    usage: Usage | None = None


class ContextTooLong(ThreadwrightError):
    usage: Usage | None = None


class SandboxFailed(ThreadwrightError):
    pass


class LeaseLost(ThreadwrightError):
    pass


class Stopped(ThreadwrightError):
    """`by`: who asked for it, a display name; empty when the worker itself is going down."""

    def __init__(self, message: str = "stopped", by: str = "") -> None:
        super().__init__(message)
        self.by = by


class Misconfigured(ThreadwrightError):
    pass
