"""What a command wants that is not here: a program, a package, a service. In words that fit after "not run: ". Pure.

Only for runs in which nothing was executed, or nothing passed: a test may print any of these words.
"""

from __future__ import annotations

import re

from graph.outputs import Reading, clean
from graph.values import Outcome

PROGRAM = "a program that it needs is missing here"

_MAKE_ERROR = re.compile(r"^g?make(?:\[\d+\])?: \*\*\* .*\bError (126|127)\b", re.MULTILINE)
_NO_PROGRAM = (
    re.compile(
        r"^(?:/bin/)?(?:ba|da)?sh: (?:line )?(?:\d+: )?([\w.@/+-]{1,80}): (?:command )?not found$", re.MULTILINE
    ),
    re.compile(
        r"^g?make(?:\[\d+\])?: ([\w.@/+-]{1,80}): (?:No such file or directory|Permission denied)$", re.MULTILINE
    ),
    re.compile(r"^(?:/usr/bin/)?env: .([\w.@/+-]{1,80}).: No such file or directory$", re.MULTILINE),
)
_STARTER_GAVE_UP = re.compile(r"ELIFECYCLE|exit code 127|\bspawn [\w.@/+-]{1,80} ENOENT")
_NO_PYTHON_MODULE = re.compile(r"^\S*python[\d.]*(?:\.exe)?: No module named ([\w.]{1,80})$", re.MULTILINE)
_PACKAGES = (
    (re.compile(r"ModuleNotFoundError: No module named '([\w.]{1,80})'"), "the Python package {}"),
    (re.compile(r"Cannot find (?:package|module) '((?:@[\w.-]{1,80}/)?[\w][\w.-]{0,80})[/']"), "the npm package {}"),
    (re.compile(r"no required module provides package ([\w./@-]{1,120}?)[;:\s]"), "the Go package {}"),
    (re.compile(r"cannot find (?:module providing )?package \"?([\w./@-]{1,120}?)[\":]?\s"), "the Go package {}"),
    (re.compile(r"missing go\.sum entry for module providing package ([\w./@-]{1,120}?)[;:\s]"), "the Go package {}"),
    (re.compile(r"no matching package named `([\w-]{1,80})` found"), "the crate {}"),
    (re.compile(r"failed to (?:download|get)(?: replaced source)? `([\w-]{1,80})"), "the crate {}"),
)
_NETWORK = re.compile(
    r"Could not resolve host|getaddrinfo (?:ENOTFOUND|EAI_AGAIN)|Temporary failure in name resolution"
    r"|Name or service not known|dial tcp: lookup |failed to download|network is unreachable",
    re.IGNORECASE,
)
_DOCKER = re.compile(r"Cannot connect to the Docker daemon|failed to connect to the docker API", re.IGNORECASE)
_REFUSED = tuple(
    re.compile(pattern)
    for pattern in (
        r"connection to server at \"[^\"\n]{1,100}\"(?: \([^)\n]{1,60}\))?, port (\d{1,5}) failed",
        r"could not connect to server: Connection refused[^?]{0,200}port (\d{1,5})\?",
        r"ECONNREFUSED [\w.:\[\]-]{1,100}:(\d{1,5})\b",
        r"dial tcp [\w.:\[\]-]{1,100}:(\d{1,5}): connect: connection refused",
        r"Error \d{1,3} connecting to [\w.-]{1,100}:(\d{1,5})\b",
        r"Connect call failed \('[\w.:]{1,100}', (\d{1,5})",
        r"Can't connect to MySQL server on '[\w.-]{1,100}:(\d{1,5})",
        r"host='[\w.-]{1,100}', port=(\d{1,5})\)[^\n]{0,300}[Rr]efused",
        r":(\d{1,5}): \[Errno (?:111|61)\] Connection refused",
    )
)
_PORTS = {
    5432: "PostgreSQL", 3306: "MySQL", 6379: "Redis", 27017: "MongoDB", 5672: "RabbitMQ", 9200: "Elasticsearch",
    9092: "Kafka", 11211: "memcached", 2375: "Docker", 4566: "LocalStack", 1433: "SQL Server",
}  # fmt: skip
_DRIVERS = (
    (re.compile(r"psycopg|asyncpg|libpq|postgres", re.IGNORECASE), "PostgreSQL"),
    (re.compile(r"mysql|mariadb", re.IGNORECASE), "MySQL"),
    (re.compile(r"mongo", re.IGNORECASE), "MongoDB"),
    (re.compile(r"\bredis\b", re.IGNORECASE), "Redis"),
)
_ANY_REFUSAL = re.compile(r"connection refused|Can't connect to MySQL server", re.IGNORECASE)
_EPHEMERAL = 32_768
"""From here on systems give ports to programs that ask for any: a test's own server, not a service."""


def program(outcome: Outcome, reading: Reading) -> str:
    """The program that is not there, or the module that was to be run as one."""
    output = outcome.output
    if outcome.exit in (126, 127) or _MAKE_ERROR.search(output):
        return _program_named(output) or PROGRAM
    if missing := _NO_PYTHON_MODULE.search(output):
        # Of a run in which tests were executed, these are words of a test.
        return "" if reading.executed else f"needs the Python package {missing[1]}"
    nothing = not reading.executed and not reading.failing
    return _program_named(output) if nothing and _STARTER_GAVE_UP.search(output) else ""


def _program_named(output: str) -> str:
    for pattern in _NO_PROGRAM:
        if found := pattern.findall(output):
            return f"needs the program {found[-1]}"
    return ""


def package_or_service(output: str) -> str:
    return package(output) or service(output)


def package(output: str) -> str:
    for pattern, words in _PACKAGES:
        if found := pattern.search(output):
            return f"needs {words.format(clean(found[1]))}"
    return ""


def service(output: str) -> str:
    """A service that did not answer; the network, when a host could not be found."""
    if _DOCKER.search(output):
        return "needs Docker"
    for pattern in _REFUSED:
        if found := pattern.search(output):
            port = int(found[1])
            if port in _PORTS:
                return f"needs {_PORTS[port]} on port {port}"
            return f"needs a service on port {port}" if port < _EPHEMERAL else ""
    if _ANY_REFUSAL.search(output):
        return next((f"needs {name}" for pattern, name in _DRIVERS if pattern.search(output)), "")
    return "needs the network" if _NETWORK.search(output) else ""
