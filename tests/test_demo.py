"""The demo is real: it ends with a green merge commit, and without the repair in its script it ends red."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from pydantic import SecretStr
from rich.console import Console

from integrations.scriptedmodel import ScriptedModelServer
from jobs import demo, demoscript
from jobs.settings import Settings


def played(root: Path, *, repaired: bool) -> tuple[int, str]:
    root.chmod(0o755)
    out = io.StringIO()
    with ScriptedModelServer(demoscript.script(repaired=repaired)) as server:
        settings = Settings.model_validate(
            {
                "threadwright_home": root / "data",
                "forge_dir": root / "forge",
                "redis_url": SecretStr(""),
                "openai_base_url": server.url,
                "openai_api_key": SecretStr("scripted"),
                "model": "scripted-model",
                "on_approval": "merge",
                "second_person": False,
            }
        )
        code = demo.play(Console(file=out, width=120, highlight=False), settings, patience=60)
        assert server.refused == []
    return code, out.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for place in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        place.chmod(0o755)
    return tmp_path


def test_the_demo_plays_the_whole_conversation_and_ends_green(folder: Path) -> None:
    code, text = played(folder, repaired=True)
    assert code == 0
    story = [
        "@threadwright Parcels of exactly 2 kg",
        "👀",
        "What should price() do",
        "> 1",
        "plan: 2 steps",
        "edit_file parcel/rates.py",
        "exit 1",
        "exit 0",
        "review, round 1: 1 finding",
        "does not name the weight",
        "review, round 2",
        "Receipts:",
        "React ✅ to merge",
        "/react ✅",
        "Merged `",
        "log --oneline --graph main",
        "Ran 6 tests",
        "Merged, and green.",
    ]
    position = 0
    for line in story:
        found = text.find(line, position)
        assert found >= 0, f"{line!r} is missing or too early in:\n{text}"
        position = found
    bare = folder / "forge" / "acme" / "parcel.git"
    assert len(demoscript.git(bare, "log", "--merges", "--format=%H", "main").split()) == 1


def test_without_the_repair_in_its_script_the_demo_ends_red_and_opens_no_pull_request(folder: Path) -> None:
    code, text = played(folder, repaired=False)
    assert code == 1
    assert "did not end with a merge" in text
    assert "Merged" not in text
    bare = folder / "forge" / "acme" / "parcel.git"
    assert not list(Path(f"{bare}.pulls").glob("*.json"))
    assert len(demoscript.git(bare, "log", "--format=%H", "main").split()) == 1
