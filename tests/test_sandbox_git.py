"""The checkout in a box: made, changed, exported and put back, also when somebody planted things in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from boxes import git, make_mirror, make_sandbox, make_workspace, tree_of

from graph.errors import SandboxFailed, TreeRefused
from integrations.sandbox import BoxLimits, ShellBox

ODD = ["with space", "quo'te\"s", "new\nline", os.fsdecode(b"not-utf8-\xff"), "-dash", "a/b/c", "tab\there", "ünï"]


def start(files: dict[str, bytes], folder: Path, prepare: Callable[[Path], object] | None = None) -> tuple[Path, str]:
    return make_mirror(folder, files, prepare)


@contextmanager
def opened(folder: Path, mirror: Path, commit: str, **limits: int) -> Iterator[ShellBox]:
    sandbox = make_sandbox(folder, limits=BoxLimits(**limits))
    box = sandbox.open(make_workspace(folder, mirror, commit))
    try:
        yield box
    finally:
        box.close()


def test_odd_names_are_cloned_changed_and_exported(tmp_path: Path) -> None:
    mirror, commit = start(dict.fromkeys(ODD, b"old\n"), tmp_path)
    with opened(tmp_path, mirror, commit) as box:
        assert box.changed(commit) == []
        for name in ODD:
            assert box.read(name) == b"old\n"
            box.write(name, b"new\n")
        box.write(ODD[3] + "2", b"added\n")
        assert box.changed(commit) == sorted([*ODD, ODD[3] + "2"])
        left = box.export(commit)
    assert tree_of(mirror, commit, left.pack, left.tree) == {
        **dict.fromkeys(ODD, ("100644", b"new\n")), ODD[3] + "2": ("100644", b"added\n"),
    }  # fmt: skip


def test_an_unchanged_checkout_exports_the_commits_own_tree(tmp_path: Path) -> None:
    def ignoring(source: Path) -> None:
        (source / ".gitignore").write_text("*.log\n")
        (source / ".gitattributes").write_text("*.auto text=auto\n*.text text\n")

    files = {"tracked.log": b"kept\n", "dos.txt": b"a\r\nb\r\n", "dos.auto": b"a\r\nb\r\n", "dos.text": b"a\nb\n"}
    mirror, commit = start(files, tmp_path, ignoring)
    with opened(tmp_path, mirror, commit) as box:
        box.write("ignored.log", b"x")
        assert box.changed(commit) == []
        assert box.export(commit).tree == git(mirror, "rev-parse", f"{commit}^{{tree}}")
        box.run("rm tracked.log")
        assert box.changed(commit) == ["tracked.log"]


def test_files_that_git_would_renormalise_are_taken_as_they_are(tmp_path: Path) -> None:
    # Committed before the attribute was: the blobs have CRLF, and adding a file anew would change it.
    names = ["old.txt", "with space.txt", "[id].txt", 'qu"ote\n.txt', os.fsdecode(b"\xff.txt")]
    mirror, first = start(dict.fromkeys(names, b"a\r\nb\r\n"), tmp_path)
    work = tmp_path / "later"
    git(tmp_path, "clone", "-q", str(mirror), str(work))
    (work / ".gitattributes").write_text("*.txt text\n*.bat text eol=crlf\n")
    (work / "x.bat").write_bytes(b"a\r\n")
    git(work, "add", ".gitattributes", "x.bat")
    git(work, "commit", "-q", "-m", "attributes")
    git(work, "push", "-q", "origin", "HEAD:main")
    commit = git(mirror, "rev-parse", "main")
    with opened(tmp_path, mirror, commit) as box:
        for _ in range(2):
            assert box.changed(commit) == []
            box.run("touch *")
            assert box.export(commit).tree == git(mirror, "rev-parse", f"{commit}^{{tree}}")
            box.write("x", b"")
            box.reset(commit)
        assert box.read("x.bat") == b"a\r\n"
        box.write("[id].txt", b"a\r\nc\r\n")
        box.write("new.txt", b"a\r\n")
        left = box.export(commit)
    found = tree_of(mirror, commit, left.pack, left.tree)
    assert found["[id].txt"][1] == b"a\r\nc\r\n"
    assert found["new.txt"][1] == b"a\n"
    assert first != commit


def test_modes_links_and_deletions_leave_the_box(tmp_path: Path) -> None:
    mirror, commit = start({"run.sh": b"#!/bin/sh\n", "gone": b"x", "b.bin": bytes(range(256)) * 400}, tmp_path)
    with opened(tmp_path, mirror, commit) as box:
        assert (
            box.run("chmod +x run.sh; rm gone; ln -s run.sh link; mkdir __pycache__; touch __pycache__/x.pyc").exit == 0
        )
        assert box.changed(commit) == ["gone", "link", "run.sh"]
        left = box.export(commit)
    found = tree_of(mirror, commit, left.pack, left.tree)
    assert set(found) == {"run.sh", "link", "b.bin"}
    assert found["run.sh"][0] == "100755"
    assert found["link"] == ("120000", b"run.sh")


def test_submodules_stay_as_they_are(tmp_path: Path) -> None:
    inner, _ = start({"in": b"in"}, tmp_path / "inner")

    def add(source: Path) -> None:
        git(source, "submodule", "add", "-q", str(inner), "sub")

    mirror, commit = start({"a": b"a"}, tmp_path, add)
    with opened(tmp_path, mirror, commit) as box:
        assert box.run("ls sub | wc -l").output.strip() == "0"
        assert box.changed(commit) == []
        box.write("a", b"b")
        left = box.export(commit)
    found = tree_of(mirror, commit, left.pack, left.tree)
    assert found["sub"][0] == "160000"
    assert found["a"] == ("100644", b"b")


def test_a_workspace_is_found_again_and_half_made_ones_are_made_anew(tmp_path: Path) -> None:
    mirror, commit = start({"a": b"a"}, tmp_path)
    with opened(tmp_path, mirror, commit) as box:
        box.write("b", b"kept")
    with opened(tmp_path, mirror, commit) as box:
        assert box.read("b") == b"kept"
        box.run("mkdir ../.clone.99; touch ../.clone.99/x; rm -rf .git; chmod 0 .; true")
    with opened(tmp_path, mirror, commit) as box:
        assert box.changed(commit) == []
        assert box.run("ls -A .. | sort").output.split() == [".ledger", "checkout", "scratch"]


def test_a_commit_made_outside_is_a_base_and_can_be_gone_back_to(tmp_path: Path) -> None:
    mirror, first = start({"a": b"a", ".gitignore": b"kept\n"}, tmp_path)
    with opened(tmp_path, mirror, first) as box:
        box.write("a", b"second")
        left = box.export(first)
        git(mirror, "index-pack", "--stdin", "--fix-thin", "--strict", stdin=left.pack)
        second = git(mirror, "commit-tree", left.tree, "-p", first, "-m", "second")
        git(mirror, "update-ref", "refs/threadwright/tw-test/wip", second)
        assert box.changed(second) == []
        assert box.export(second).tree == left.tree
        box.run("echo x > a; touch new; mkdir d; touch d/e kept; git add -A; git commit -q -m mine")
        assert box.changed(second) == ["a", "d/e", "new"]
        box.reset(second)
        assert box.changed(second) == []
        assert box.run("git rev-parse HEAD").output.strip() == second
        assert box.run("git status --porcelain; ls").output.split() == ["a", "kept"]
        box.reset(first)
        assert box.read("a") == b"a"
        assert box.run("git rev-parse HEAD").output.strip() == first


PLANTED = {
    "nonsense in the config": "echo '[broken' > .git/config",
    "no git folder": "rm -rf .git",
    "a git file that leads away": "rm -rf .git; echo 'gitdir: /nowhere' > .git",
    "hooks that fail": "printf '#!/bin/sh\\nexit 1\\n' > .git/hooks/post-checkout; chmod +x .git/hooks/*;"
    " cp .git/hooks/post-checkout .git/hooks/reference-transaction",
    "an fsmonitor that lies": "printf '#!/bin/sh\\nprintf \"x\\\\0\"\\n' > /tmp/f; chmod +x /tmp/f;"
    " git config core.fsmonitor /tmp/f; git status",
    "locks that were left": "touch .git/index.lock .git/HEAD.lock ../.ledger/index.lock",
    "everything excluded": "echo '*' > .git/info/exclude",
    "a ledger that is a file": "rm -rf ../.ledger; touch ../.ledger",
    "a ledger that leads away": "rm -rf ../.ledger; ln -s /tmp ../.ledger",
    "a broken ledger": "echo x > ../.ledger/index; mkdir ../.ledger/config; ln -s /etc/passwd ../.ledger/HEAD",
    "a filter that fails": "git config filter.x.clean false; git config filter.x.required true;"
    " mkdir -p .git/info; echo '* filter=x' > .git/info/attributes",
}


@pytest.mark.parametrize("plant", PLANTED.values(), ids=PLANTED.keys())
def test_what_is_planted_in_the_checkout_spoils_neither_export_nor_reset(tmp_path: Path, plant: str) -> None:
    mirror, commit = start({"a": b"a", "b": b"b"}, tmp_path)
    with opened(tmp_path, mirror, commit) as box:
        box.write("a", b"changed")
        box.run(plant)
        assert box.changed(commit) == ["a"]
        left = box.export(commit)
        assert tree_of(mirror, commit, left.pack, left.tree)["a"] == ("100644", b"changed")
        box.reset(commit)
        assert box.changed(commit) == []
        assert box.read("a") == b"a"
        assert box.run("git status --porcelain && git log --oneline | wc -l").output.strip() == "1"


def test_a_change_that_is_too_large_is_refused_in_plain_words(tmp_path: Path) -> None:
    mirror, commit = start({"a": b"a"}, tmp_path)
    with opened(tmp_path, mirror, commit, export_bytes=200_000) as box:
        box.run("head -c 100000 /dev/urandom > big")
        assert len(box.export(commit).pack) > 100_000
        box.run("head -c 300000 /dev/urandom > big")
        with pytest.raises(TreeRefused, match="too large to leave the sandbox"):
            box.export(commit)


def test_a_nested_repository_without_a_commit_is_refused_with_gits_words(tmp_path: Path) -> None:
    mirror, commit = start({"a": b"a"}, tmp_path)
    with opened(tmp_path, mirror, commit) as box:
        box.run("git init -q nested")
        with pytest.raises(TreeRefused, match="nested"):
            box.export(commit)


def test_a_commit_that_the_mirror_lacks_is_an_error(tmp_path: Path) -> None:
    mirror, _ = start({"a": b"a"}, tmp_path)
    with pytest.raises(SandboxFailed, match="The checkout could not be made"), opened(tmp_path, mirror, "1" * 40):
        pass
