"""What the demo plays: the sample repository, the person's words, and the answers of the scripted model.

The script is a list of answers; which one is given follows from the request alone. It decides nothing about what the
repository's tests say: take the repair out, and they stay red.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from bot.chat import JournalEntry
from integrations.scriptedmodel import Answer, ConversationScript, Request, call, marked_role, say

TASK = "Parcels of exactly 2 kg are charged as heavy. Fix that, and refuse weights that make no sense."
ANSWER = "1"
TEST_COMMAND = "python3 -m unittest discover"

RATES = '''"""What a parcel costs, in cents."""

LIGHT_KG = 2
LIGHT = {"domestic": 450, "abroad": 1200}
HEAVY = {"domestic": 790, "abroad": 2300}


def price(weight_kg: float, zone: str) -> int:
    """The price of a parcel. Up to and including 2 kg it is light."""
    if weight_kg < LIGHT_KG:
        return LIGHT[zone]
    return HEAVY[zone]
'''

TESTS = """import unittest

from parcel.rates import price


class Rates(unittest.TestCase):
    def test_a_light_parcel(self):
        self.assertEqual(price(0.5, "domestic"), 450)

    def test_two_kilos_are_light(self):
        self.assertEqual(price(2, "domestic"), 450)

    def test_a_little_over_two_kilos_is_heavy(self):
        self.assertEqual(price(2.1, "domestic"), 790)

    def test_abroad_costs_more(self):
        self.assertEqual(price(5, "abroad"), 2300)


if __name__ == "__main__":
    unittest.main()
"""

FILES = {
    "README.md": "# parcel\n\nWhat a parcel costs.\n",
    "AGENTS.md": "Prices are whole cents. An error names the value that was wrong.\n",
    "pyproject.toml": '[project]\nname = "parcel"\nversion = "1.0"\n',
    "parcel/__init__.py": "",
    "parcel/rates.py": RATES,
    "tests/__init__.py": "",
    "tests/test_rates.py": TESTS,
}

_OLD = "    if weight_kg < LIGHT_KG:\n"
_WRONG = "    if round(weight_kg) <= LIGHT_KG:\n"
_RIGHT = "    if weight_kg <= LIGHT_KG:\n"
_REFUSES = '    if weight_kg <= 0:\n        raise ValueError("a parcel must weigh something")\n'
_NAMES_IT = '    if not weight_kg > 0:\n        raise ValueError(f"a parcel cannot weigh {weight_kg} kg")\n'
_LAST_TEST = """        self.assertEqual(price(5, "abroad"), 2300)
"""
_NEW_TEST = """
    def test_nothing_weighs_nothing(self):
        for weight in (0, -1):
            with self.subTest(weight=weight), self.assertRaises(ValueError):
                price(weight, "domestic")
"""
_NAMING_TEST = """
    def test_the_error_names_the_weight(self):
        for weight in (0, -1, float("nan")):
            with self.subTest(weight=weight), self.assertRaisesRegex(ValueError, str(weight)):
                price(weight, "domestic")
"""


def script(*, repaired: bool = True) -> ConversationScript:
    """The answers by role. `repaired=False` takes the repair out: then the tests stay red, whatever is tried."""
    return ConversationScript(
        by_role={"triage": _triage(), "coder": _coder(repaired=repaired), "review": _review()},
        role_of=marked_role,
        place_of=_place,
    )


def _place(request: Request) -> int:
    """A review is a conversation of its own each time: the second one sees the error that names the weight."""
    if marked_role(request) == "review":
        return int("cannot weigh" in str(request.messages[-1]["content"]))
    return request.answers_so_far


def _triage() -> list[Answer]:
    return [call("Triage", kind="task", title="Charge 2 kg as light, refuse senseless weights", reply="")]


def _coder(*, repaired: bool) -> list[Answer]:
    rates = "parcel/rates.py"
    question: dict[str, Any] = {
        "question": "What should price() do with a weight of zero or less?",
        "suggestions": ["Raise ValueError", "Return 0"],
        "assumption": "it raises ValueError",
    }
    steps: list[dict[str, Any]] = [
        {
            "title": "fix: charge parcels of exactly 2 kg as light",
            "criteria": ["2 kg costs as much as 0.5 kg", "2.1 kg is still heavy"],
        },
        {"title": "feat: refuse weights that make no sense", "criteria": ["a weight of 0 raises ValueError"]},
    ]
    first_try = [
        say("The limit is exclusive. I round the weight.") + call("edit_file", path=rates, old=_OLD, new=_WRONG),
        call("step_done", summary="2 kg is light now"),
    ]
    if not repaired:
        stubborn = [
            call("run", command="python3 -m unittest discover"),
            call("step_done", summary="it should be fine"),
        ]
        return [*_reading(question), *_plan(steps), *first_try, *(stubborn * 4)]
    return [
        *_reading(question),
        *_plan(steps),
        *first_try,
        say("Rounding makes 2.1 kg light as well. The comparison itself was wrong.")
        + call("edit_file", path=rates, old=_WRONG, new=_RIGHT),
        call("step_done", summary="2 kg is light, 2.1 kg is heavy"),
        call("edit_file", path=rates, old=_RIGHT, new=_REFUSES + _RIGHT),
        call("edit_file", path="tests/test_rates.py", old=_LAST_TEST, new=_LAST_TEST + _NEW_TEST),
        call("step_done", summary="weights of zero or less raise ValueError"),
        say("The review is right on both counts.") + call("edit_file", path=rates, old=_REFUSES, new=_NAMES_IT),
        call("edit_file", path="tests/test_rates.py", old=_NEW_TEST, new=_NEW_TEST + _NAMING_TEST),
        call("step_done", summary="the error names the weight, and not-a-number is refused"),
    ]


def _reading(question: dict[str, Any]) -> list[Answer]:
    return [
        call("list_files"),
        call("read_file", path="parcel/rates.py") + call("read_file", path="tests/test_rates.py"),
        call("ask_person", questions=[question]),
    ]


def _plan(steps: list[dict[str, Any]]) -> list[Answer]:
    plan = call(
        "propose_plan",
        title="Charge 2 kg as light and refuse senseless weights",
        summary="Parcels of exactly 2 kg are light, and a weight that makes no sense raises ValueError.",
        steps=steps,
    )
    return [plan]


def _review() -> list[Answer]:
    finding = {
        "severity": "major",
        "path": "parcel/rates.py",
        "line": 10,
        "text": "The error does not name the weight, which AGENTS.md asks for; and not-a-number passes, "
        "since it is not smaller than anything.",
    }
    return [
        call("Review", summary="The fix is right; the refusal is incomplete.", findings=[finding]),
        call("Review", summary="Does what the task asks, with tests.", findings=[]),
    ]


def make_repository(forge: Path) -> Path:
    """The bare repository `acme/parcel` with one commit."""
    bare = forge / "acme" / "parcel.git"
    bare.mkdir(parents=True)
    git(bare, "init", "--quiet", "--bare", "--initial-branch=main")
    tree = _tree(bare, FILES)
    commit = git(bare, "commit-tree", tree, "-m", "Charge parcels by weight and zone").strip()
    git(bare, "update-ref", "refs/heads/main", commit)
    return bare


def _tree(bare: Path, files: dict[str, str]) -> str:
    index = bare / "demo-index"
    for name, text in files.items():
        blob = git(bare, "hash-object", "-w", "--stdin", stdin=text).strip()
        git(bare, "update-index", "--add", "--cacheinfo", f"100644,{blob},{name}", index=index)
    tree = git(bare, "write-tree", index=index).strip()
    index.unlink()
    return tree


def git(bare: Path, *args: str, stdin: str = "", index: Path | None = None) -> str:
    """Plain git on the demo's own bare repository, with an environment made of nothing."""
    env = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        **{f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in _SOMEBODY.items()},
        **({"GIT_INDEX_FILE": str(index)} if index else {}),
    }
    done = subprocess.run(
        ["git", "--git-dir", str(bare), *args], input=stdin, env=env, capture_output=True, text=True, check=True
    )
    return done.stdout


_SOMEBODY = {"NAME": "Ann", "EMAIL": "ann@example.com"}


def narrate(entry: JournalEntry) -> str:
    """The journal's lines for a reader of the demo; empty for what the card says already."""
    data = entry.data
    match entry.kind:
        case "edit":
            return f"{data['tool']} {data['path']}"
        case "command":
            end = f"exit {data['exit']}" if data["exit"] is not None else data["ended"]
            return f"$ {data['command']}   {end}, {data['seconds']:.1f} s{RED if data['exit'] else ''}"
        case "plan":
            return f"plan: {data['steps']} steps"
        case "commit":
            return f"commit {data['sha'][:7]} {data['title']}"
        case "review":
            count = data["findings"]
            head = f"review, round {data['round']}: {count} {'finding' if count == 1 else 'findings'}"
            return "\n".join([head, *data["said"]])
        case "push":
            return f"push {data['sha'][:7]} to {data['branch']}"
        case "error":
            return f"error {data['id']}: {data['error']}"
    return ""


RED = "   red"
