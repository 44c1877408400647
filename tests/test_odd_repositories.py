"""Repositories and commands that misbehave: the task ends as people were told, and the machine stays usable."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from gitrepos import Files, Submodule, git, git_bytes
from greetings import BROKEN, LOUD, TEST, TESTED, TITLE, alive, louder, pull_of, tool_results, until
from rooms import Answer, House, Room, by_role, call, done, plan, write

from integrations.scriptedmodel import Reply, Request, marked_role

MIB = 1 << 20
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def tight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house whose limits are soon reached."""
    root = tmp_path_factory.mktemp("tight")
    for folder in (root, root.parent, root.parent.parent):
        folder.chmod(0o755)
    house = House(root, test_timeout=1.5, command_timeout=3, sandbox_disk=64 * MIB)
    yield house
    house.close()


def marker() -> str:
    """A number of seconds that no other process on this machine sleeps."""
    return f"3{os.getpid()}.{next(_numbers):04}"


# ---- repositories


def test_a_repository_that_does_not_exist_starts_nothing_and_the_known_ones_are_named(house: House) -> None:
    house.room(TESTED, name="acme/known")
    room = house.room(name="acme/nowhere")
    receipt = room.say(f"[repo={room.repository}] add a greeting")
    assert not receipt.started
    assert "I know no repository `acme/nowhere`" in receipt.reply
    local = room.say(f"[repo={house.root}/nowhere] add a greeting", local=True)
    assert not local.started
    assert "does not exist" in local.reply
    assert room.desk.tasks(room.place) == []


def test_a_repository_that_vanishes_after_the_task_began_ends_it_in_plain_words(house: House) -> None:
    script = louder()

    def vanish(request: Request) -> Reply:
        if marked_role(request) == "triage":
            shutil.rmtree(room.bare)
        return script(request)

    room = house.room(TESTED, vanish)
    room.start()
    room.until("failed", "done")
    [last] = room.said("final")
    assert "Nothing was changed" in last
    assert "Traceback" not in last


def test_an_empty_repository_is_told_of_in_one_message(house: House) -> None:
    room = house.room(None, louder())
    subprocess.run(["git", "init", "--quiet", "--bare", str(room.bare)], check=True)
    room.start()
    room.until("failed", "done")
    [last] = room.said("final")
    assert "empty" in last or "no commits" in last
    assert room.pulls() == []


def test_without_tests_the_pull_request_opens_and_says_everywhere_that_nothing_was_tested(house: House) -> None:
    room = house.room({"greet.py": TESTED["greet.py"]}, louder())
    room.start()
    room.until("watching")
    [cards] = room.chat.cards.values()
    assert any("no test command" in note for note in cards[-1].notes)
    [result] = room.said("result")
    assert "no tests were run" in result or "No checks were run" in result
    assert "(not tested)" in result
    assert "test" in pull_of(room)["body"].lower()
    assert pull_of(room)["draft"]


OLD_FAILURE: Files = {
    **TESTED,
    "tests/test_old.py": (
        "import unittest\n\n\nclass Old(unittest.TestCase):\n"
        "    def test_was_broken_before(self):\n        self.fail()\n"
    ),
}


def test_what_failed_before_is_listed_and_blamed_on_nobody(house: House) -> None:
    room = house.room(OLD_FAILURE, louder())
    room.start()
    room.until("watching")
    assert room.commits() == [TITLE]
    [result] = room.said("result")
    assert "failed before and fails still: test_was_broken_before" in result
    assert "test_was_broken_before" in pull_of(room)["body"]


def test_a_new_failure_does_not_hide_behind_an_old_one(house: House) -> None:
    script = by_role([plan(TITLE), write("greet.py", BROKEN), done(), write("greet.py", LOUD), done()])
    room = house.room(OLD_FAILURE, script)
    room.start()
    room.until("watching")
    [red] = [text for text in tool_results(room) if "Not committed" in text]
    assert "newly failing: test_greets" in red
    assert room.file(f"threadwright/{room.task}", "greet.py") == LOUD.rstrip("\n")


def test_submodules_stay_what_they_are(house: House) -> None:
    sha = "1234567890" * 4
    modules = '[submodule "lib"]\n\tpath = lib\n\turl = https://example.com/lib.git\n'
    room = house.room({**TESTED, ".gitmodules": modules, "lib": Submodule(sha)}, louder(call("list_files")))
    room.start()
    room.until("watching")
    assert f"160000 commit {sha}\tlib" in room.git("ls-tree", f"threadwright/{room.task}")
    assert room.git("diff", "--name-only", "main", f"threadwright/{room.task}") == "greet.py"


ODD: dict[str | bytes, str] = {
    "with space.txt": "space\n",
    "quo\"te's.txt": "quote\n",
    "new\nline.txt": "newline\n",
    "-rf": "dash\n",
    "$(touch planted)`x`;#.txt": "shell\n",
    "ü mlaut/näch\tste.txt": "umlaut\n",
    b"latin-\xfc\xff.txt": "bytes\n",
    b"dir-\xe9/\x80 odd\n.txt": "bytes below\n",
    ":(glob)*.txt": "pathspec\n",
}


def test_odd_file_names_can_be_worked_beside_and_are_left_alone(house: House) -> None:
    looks = [call("list_files"), *(call("read_file", path=name) for name in ODD if isinstance(name, str))]
    edits = [
        write("new\nline.txt", "changed\n"),
        call("edit_file", path="quo\"te's.txt", old="quote", new="quoted"),
        call("delete_file", path=":(glob)*.txt"),
        write("a new one, with spaces.txt", "new\n"),
    ]
    room = house.room({**TESTED, **ODD}, louder(*looks, *edits))
    room.start()
    room.until("watching")
    listed, *read = tool_results(room)[1:]
    assert "with space.txt" in listed
    for said, content in zip(read, (ODD[name] for name in ODD if isinstance(name, str)), strict=False):
        assert content.strip() in said
    before, after = tree(room, "main"), tree(room, f"threadwright/{room.task}")
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert changed == {b"greet.py", b"new\nline.txt", b"quo\"te's.txt", b":(glob)*.txt", b"a new one, with spaces.txt"}
    assert after.keys() >= {name for name in map(_raw, ODD) if name != b":(glob)*.txt"}


def test_names_that_are_no_text_reach_the_model_and_people_without_breaking_anything(house: House) -> None:
    # As a model would write the byte 0xFC: half of a pair that has no other half.
    half = Answer(calls=(("read_file", '{"path": "latin-\\udcfc\\udcff.txt"}'),))
    made = "cat latin-*.txt; printf 'on: push\\n' > .github/workflows/$(printf '\\377').yml"
    room = house.room(
        {**TESTED, **ODD, ".github/workflows/ci.yml": "on: push\n"},
        by_role([half, plan(TITLE), half, call("run", command=made), write("greet.py", LOUD), done(), done()]),
    )
    room.start()
    assert room.until("asking").data["question"]["kind"] == "protected"
    room.say("yes")
    room.until("watching")
    results = tool_results(room)
    assert "there is no file" in results[0]
    assert any("exit code 0" in text and "\nbytes\n" in text for text in results)
    assert b".github/workflows/\xff.yml" in tree(room, f"threadwright/{room.task}")


def _raw(name: str | bytes) -> bytes:
    return name.encode() if isinstance(name, str) else name


def tree(room: Room, ref: str) -> dict[bytes, bytes]:
    """Mode and blob of every path."""
    listing = git_bytes(room.bare, "ls-tree", "-r", "-z", "--full-tree", ref)
    return {name: about for about, _, name in (line.partition(b"\t") for line in listing.split(b"\0") if line)}


def test_a_suite_whose_runner_is_missing_is_not_run_and_everybody_is_told(house: House) -> None:
    files: Files = {"greet.py": TESTED["greet.py"], "Makefile": "test:\n\tsome-runner-that-is-not-here --all\n"}
    room = house.room(files, louder())
    room.start()
    room.until("watching")
    [result] = room.said("result")
    assert "Tests not run here: needs the program some-runner-that-is-not-here." in result
    assert "(not tested)" in result
    pull = pull_of(room)
    assert pull["draft"]
    assert "not run" in pull["body"].lower()
    assert "make test" in pull["body"]


# ---- commands


def horses(house: House) -> list[int]:
    """The processes of the turns that are under way: children of the workers."""
    found = []
    for pid in house.workers.pids:
        found += [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return found


def peak(pid: int) -> int:
    """Most memory that a process has had, in bytes."""
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def test_a_command_that_prints_a_gigabyte_is_cut_and_the_worker_stays_small(house: House) -> None:
    before: list[int] = []
    after: list[int] = []
    script = louder(call("run", command="yes 0123456789abcdef | head -c 1073741824"))

    def look(request: Request) -> Reply:
        if marked_role(request) == "coder":
            # The turn waits for this very answer.
            (after if "ended by output" in str(request.messages) else before).extend(map(peak, horses(house)))
        return script(request)

    room = house.room(TESTED, look)
    room.start()
    room.until("watching")
    [cut] = [text for text in tool_results(room) if "ended by output" in text]
    assert len(cut) < 20_000
    assert after
    assert max(after) - max(before) < 64 * MIB, (before, after)
    assert room.commits() == [TITLE]


def test_the_look_at_memory_would_see_a_worker_that_reads_it_all() -> None:
    code = "import sys; kept = b'x' * (200 << 20); print(1, flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as greedy:
        assert greedy.stdout is not None
        greedy.stdout.readline()
        assert peak(greedy.pid) > 200 * MIB
        greedy.communicate()


DAEMON = (
    "import subprocess, unittest\n\n\nclass D(unittest.TestCase):\n    def test_leaves_a_daemon(self):\n"
    "        subprocess.Popen(['sh', '-c', 'trap \"\" HUP TERM; (setsid sleep {0} &) ; sleep {0}'],\n"
    "                         start_new_session=True)\n"
)


def test_a_daemon_that_a_test_leaves_behind_does_not_outlive_the_turn(house: House) -> None:
    name = marker()
    script = louder(call("run", command=f"(setsid sleep {name} &); sleep 0.5"))
    room = house.room({**TESTED, "tests/test_daemon.py": DAEMON.format(name)}, script)
    room.start()
    # While it runs it can be seen, so that "nothing is alive" means something.
    until(lambda: alive(name), "seen")
    room.until("watching")
    until(lambda: not alive(name), "rid of the daemon", 5)


def test_the_look_for_processes_would_see_one_that_escaped() -> None:
    name = marker()
    with subprocess.Popen(["sleep", name], start_new_session=True) as escaped:
        until(lambda: alive(name) == [escaped.pid], "seen")
        escaped.kill()
    assert alive(name) == []


def test_a_fork_bomb_ends_at_its_limit_and_the_machine_and_the_task_go_on(house: House) -> None:
    name = marker()
    bomb = f"bomb() {{ bomb | bomb & sleep {name}; }}; bomb; sleep 20"
    room = house.room(TESTED, louder(call("run", command=bomb, seconds=2)))
    room.start()
    most = 0

    def look() -> bool:
        nonlocal most
        most = max(most, len(alive(name)))
        return room.view.status == "watching"

    until(look, "watching", 60)
    assert 0 < most <= 512
    assert subprocess.run(["true"], check=False, timeout=5).returncode == 0
    assert alive(name) == []
    assert room.commits() == [TITLE]


def test_a_command_that_runs_over_its_time_is_ended_with_its_children(house: House) -> None:
    name = marker()
    room = house.room(TESTED, louder(call("run", command=f"sleep {name} & sleep {name}", seconds=1)))
    room.start()
    room.until("watching")
    [said] = [text for text in tool_results(room) if "ended by timeout" in text]
    assert "after 1." in said
    assert alive(name) == []


def test_tests_that_do_not_end_in_time_on_the_base_are_not_run(tight: House) -> None:
    name = marker()
    slow = (
        TEST + f"\n    def test_slow(self):\n        import subprocess\n        subprocess.run(['sleep', '{name}'])\n"
    )
    room = tight.room({**TESTED, "tests/test_greet.py": slow}, louder())
    room.start()
    room.until("watching")
    [result] = room.said("result")
    assert "it did not end within the time limit" in result
    assert "(not tested)" in result
    assert pull_of(room)["draft"]
    assert alive(name) == []


def test_a_command_that_fills_the_disk_is_ended_and_the_task_goes_on(tight: House) -> None:
    hog = "for n in $(seq 1000); do head -c 8388608 /dev/zero > big.$n || exit 9; sleep 0.05; done"
    room = tight.room(TESTED, louder(call("run", command=hog), call("run", command="rm -f big.*")))
    room.start()
    room.until("watching")
    assert any("ended by disk" in text for text in tool_results(room)), tool_results(room)
    assert room.commits() == [TITLE]
    assert room.git("diff", "--name-only", "main", f"threadwright/{room.task}") == "greet.py"
    assert git(room.bare, "count-objects").split()[0].isdigit()
