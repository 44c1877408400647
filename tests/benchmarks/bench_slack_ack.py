"""How soon Slack has its acknowledgement, of the listener as it is and of a bare bolt handler that only acknowledges.

Run: `python tests/benchmarks/bench_slack_ack.py [seconds]`. Prints a table, asserts nothing. Goal: far below 3 s.

Both are processes of their own, one after the other, at one stub Slack, which takes the times: from the sending of an
event to its acknowledgement. `ours` is `threadwright up --workers 0`: it stores what is said in task threads in Redis
before it acknowledges, and in the same process reads, reacts with 👀 and posts cards. `ours, dropped` are messages
outside its threads. Over HTTP the bare handler has bolt's own check of signatures and Starlette adapter, on uvicorn.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from pathlib import Path

from rig import load, until
from slackserver import BEN, GENERAL
from test_slack_burst import THREADS, UP, Burst, burst

RATES = (50, 200)
WARM_UP = 100
BARE = (str(Path(__file__)), "bare")


def bare() -> None:
    """Settings as for `threadwright up`."""
    from slack_bolt import Ack, App
    from slack_sdk import WebClient

    token, url = os.environ["SLACK_BOT_TOKEN"], os.environ["SLACK_API_URL"]
    secret = os.environ.get("SLACK_SIGNING_SECRET", "")
    app = App(client=WebClient(token, base_url=url), signing_secret=secret or "unused")

    def message(ack: Ack) -> None:
        ack()

    for event in ("message", "app_mention"):
        app.event(event)(message)
    if not secret:
        from slack_bolt.adapter.socket_mode import SocketModeHandler

        SocketModeHandler(app, os.environ["SLACK_APP_TOKEN"]).start()
        return
    import uvicorn
    from slack_bolt.adapter.starlette import SlackRequestHandler
    from starlette.applications import Starlette
    from starlette.routing import Route

    from bot.slack.http import PATH

    routes = [Route(PATH, SlackRequestHandler(app).handle, methods=["POST"])]
    port = int(os.environ["HTTP_PORT"])
    uvicorn.run(Starlette(routes=routes), host="127.0.0.1", port=port, log_level="warning", access_log=False)


def measured(slack: Burst, rate: int, seconds: float, *, outside: bool = False) -> str:
    """One row, without the name of who listens."""
    before = len(slack.stub.deliveries)
    threads = slack.said
    if outside:
        slack.said = {slack.stub.say(BEN, GENERAL, "something else"): []}
    slack.say_some(int(rate * seconds), rate=rate, mentions=not outside)
    slack.said = threads
    slack.settle()
    found = slack.stub.deliveries[before:]
    milliseconds = sorted(1e3 * one.latency for one in found if one.latency is not None)
    cuts = statistics.quantiles(milliseconds, n=100)
    again = sum(one.tries > 1 for one in found)
    return f"{rate:>4}/s {len(found):>7} {cuts[49]:>8.1f} {cuts[98]:>8.1f} {milliseconds[-1]:>8.1f} {again:>6}"


def run(http: bool, seconds: float) -> None:
    name = "HTTP" if http else "Socket Mode"
    with tempfile.TemporaryDirectory(prefix="threadwright-bench-") as folder:
        root = Path(folder) / "house"
        root.mkdir()
        with burst(root, http=http) as slack:
            slack.open(THREADS)
            for who, program in (("ours", UP), ("bare", BARE)):
                if slack.program != program:
                    slack.kill()
                    until(lambda: not slack.stub.sockets, "end of the listener before")
                    slack.program = program
                    slack.start()
                    until(slack.listens, "listener")
                slack.say_some(WARM_UP)
                slack.settle()
                for rate in RATES:
                    print(f"{name:<12} {who:<14} {measured(slack, rate, seconds)}", flush=True)
                    if who == "ours":
                        print(f"{name:<12} {'ours, dropped':<14} {measured(slack, rate, seconds, outside=True)}")


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    print(f"{seconds:g} s at each rate; {load()}")
    print(f"{'ms until acknowledged':<27} {'rate':>6} {'events':>7} {'p50':>8} {'p99':>8} {'max':>8} {'again':>6}")
    for http in (False, True):
        run(http, seconds)
    print(load())


if __name__ == "__main__":
    bare() if sys.argv[1:] == ["bare"] else main()
