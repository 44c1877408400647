"""What may leave the sandbox: the tree policy through `GitWorkspaces.take`, on real repositories."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from gitrepos import (
    MODES,
    Files,
    Link,
    Objects,
    Submodule,
    add_commit,
    edited,
    empty_pack,
    git,
    make_repository,
    repository,
)

from graph.errors import TreeRefused
from graph.ports import TreePack
from graph.state import Brief, Person
from integrations.git import GitWorkspaces
from integrations.treepolicy import added_text, is_git_folder, leaves_tree, printable

BRIEF = Brief(
    id="tw-abcd",
    text="do it",
    requester=Person(id="console:local:ann"),
    created=datetime(2026, 11, 1, 12, 0, tzinfo=UTC),
)
ODD: Files = {
    "new\nline.txt": "a\n",
    b"latin-\xe9.txt": "b\n",
    'quote".txt': "c\n",
    "-dash": "d\n",
    "README.md": "# Sample\n",
    "crlf.txt": "one\r\ntwo\r\n",
    "lib": Submodule("1" * 40),
    ".gitmodules": '[submodule "lib"]\n\tpath = lib\n\turl = ../lib\n\tignore = all\n',
    "out": Link("/etc/passwd"),
    ".github/workflows/ci.yml": "on: push\n",
    "old-secret.txt": "ghp_" + "a1B2" * 9 + "\n",
}


class Case:
    def __init__(self, folder: Path, files: Files, **limits: int) -> None:
        self.bare = make_repository(folder / "sample.git", files)
        self.scratch = folder / "scratch"
        self.workspaces = GitWorkspaces(folder / "home", **limits)
        self.repository, self.base = self.workspaces.fetch(repository(self.bare))

    def take(self, files: Files, allow: tuple[str, ...] = ()) -> str:
        return self.take_pack(edited(self.bare, self.scratch, self.base, files), allow)

    def take_pack(self, pack: TreePack, allow: tuple[str, ...] = ()) -> str:
        return self.workspaces.take(BRIEF, self.repository, pack, [self.base], "fix: it", order=1, allow=allow)

    def mirror(self) -> Path:
        return self.workspaces.workspace(BRIEF.id, self.repository, self.base).mirror


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path, ODD)


def test_a_change_beside_odd_old_names_submodules_links_and_secrets_becomes_a_commit(case: Case) -> None:
    sha = case.take({"README.md": "# Better\n", "src/new.py": "x = 1\n"})
    tree = git(case.mirror(), "ls-tree", "-r", sha)
    assert "160000 commit " + "1" * 40 + "\tlib" in tree
    assert git(case.mirror(), "cat-file", "blob", f"{sha}:README.md") == "# Better"


def test_files_with_odd_old_names_may_be_edited_and_removed(case: Case) -> None:
    sha = case.take({"new\nline.txt": "changed\n", b"latin-\xe9.txt": None, "-dash": "changed\n"})
    assert "latin" not in git(case.mirror(), "ls-tree", "-r", "-z", sha)


def test_an_old_secret_may_be_taken_out(case: Case) -> None:
    assert case.take({"old-secret.txt": "nothing\n"})


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"sub": Submodule("2" * 40)}, "submodule"),
        ({"lib": Submodule("2" * 40)}, "submodule"),
        ({"link": Link("../outside")}, "symbolic link"),
        ({"a/b/link": Link("../../../outside")}, "symbolic link"),
        ({"link": Link("/etc/shadow")}, "symbolic link"),
        ({"link": Link(".git/config")}, "symbolic link"),
        ({"a/s": Link(".."), "a/link": Link("s/../x")}, "symbolic link"),
        ({"bell\a.txt": "x"}, "control"),
        ({"new\nline2.txt": "x"}, "control"),
        ({"right\u202eto-left.txt": "x"}, "invisible"),
        ({"-rf": "x"}, "dash"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value,
)
def test_evil_entries_are_refused(case: Case, files: Files, words: str) -> None:
    with pytest.raises(TreeRefused, match=words) as caught:
        case.take(files)
    assert not caught.value.protected
    assert caught.value.paths
    assert all(path.isprintable() for path in caught.value.paths)
    assert case.workspaces.kept(BRIEF.id, case.repository) == ""


def test_links_within_the_tree_are_fine(case: Case) -> None:
    assert case.take({"a/b/link": Link("../../README.md"), "a/link": Link("b")})


@pytest.mark.parametrize("name", [".git", "..", ".GIT", "git~1", ".g\u200cit", "."])
def test_evil_tree_entries_are_refused_by_git_itself(case: Case, tmp_path: Path, name: str) -> None:
    objects = Objects(tmp_path / "evil.git")
    inner = objects.tree([(MODES["file"], "config", objects.blob("[core]\n"))])
    tree = objects.tree([(MODES["folder"], name, inner)])
    pack = objects.pack(tree)
    with pytest.raises(TreeRefused, match="git refuses"):
        case.take_pack(pack)
    # The control: git takes the very same pack when it is not told to be strict.
    naive = make_repository(tmp_path / "naive.git")
    git(naive, "index-pack", "--stdin", "--fix-thin", stdin=pack.pack)
    assert git(naive, "cat-file", "-t", tree) == "tree"
    assert git(case.mirror(), "cat-file", "--batch-check", stdin=f"{tree}\n".encode()).endswith("missing")


def test_a_path_inside_one_name_is_refused(case: Case, tmp_path: Path) -> None:
    objects = Objects(tmp_path / "evil.git")
    tree = objects.tree([(MODES["file"], "a/../../x", objects.blob("x"))])
    with pytest.raises(TreeRefused, match="git refuses"):
        case.take_pack(objects.pack(tree))


def test_a_gitmodules_file_with_an_option_as_address_is_refused(case: Case, tmp_path: Path) -> None:
    objects = Objects(tmp_path / "evil.git")
    modules = objects.blob('[submodule "x"]\n\tpath = x\n\turl = -u./payload\n')
    with pytest.raises(TreeRefused, match="git refuses"):
        case.take_pack(objects.pack(objects.tree([(MODES["file"], ".gitmodules", modules)])))


def test_odd_modes_are_refused(case: Case, tmp_path: Path) -> None:
    objects = Objects(tmp_path / "evil.git")
    tree = objects.tree([("100666", "x.txt", objects.blob("x"))])
    with pytest.raises(TreeRefused):
        case.take_pack(objects.pack(tree))


def test_a_tree_whose_objects_are_missing_is_refused(case: Case, tmp_path: Path) -> None:
    objects = Objects(tmp_path / "evil.git")
    tree = objects.tree([(MODES["file"], "x.txt", "3" * 40)])
    with pytest.raises(TreeRefused):
        case.take_pack(objects.pack(tree))
    with pytest.raises(TreeRefused, match="does not hold the tree"):
        case.take_pack(TreePack(tree, b""))


def test_garbage_instead_of_a_pack_is_refused(case: Case) -> None:
    with pytest.raises(TreeRefused, match="git refuses"):
        case.take_pack(TreePack("4" * 40, b"no pack at all"))
    with pytest.raises(TreeRefused, match="does not hold the tree"):
        case.take_pack(TreePack("4" * 40, empty_pack()))


def test_a_pack_of_a_commit_instead_of_a_tree_is_refused(case: Case) -> None:
    with pytest.raises(TreeRefused, match="does not hold the tree"):
        case.take_pack(TreePack(case.base, b""))


def test_a_huge_pack_is_refused(case: Case) -> None:
    with pytest.raises(TreeRefused, match="larger than 50 MiB"):
        case.take_pack(TreePack("5" * 40, bytes(51 << 20)))


def test_a_small_pack_of_a_huge_file_is_refused(case: Case) -> None:
    pack = edited(case.bare, case.scratch, case.base, {"zeros.bin": bytes(6 << 20)})
    assert len(pack.pack) < 100_000
    with pytest.raises(TreeRefused, match=r"at most 5\.0 MiB.*zeros\.bin"):
        case.take_pack(pack)


def test_count_and_total_size_are_limited(tmp_path: Path) -> None:
    case = Case(tmp_path, {"README.md": "x\n"}, max_files=3, max_total_bytes=3000)
    assert case.take({f"{i}.txt": "x" for i in range(3)})
    with pytest.raises(TreeRefused, match="touches 4 files; at most 3"):
        case.take({f"{i}.txt": "x" for i in range(4)})
    with pytest.raises(TreeRefused, match="together"):
        case.take({"a": "x" * 2000, "b": "y" * 2000})


@pytest.mark.parametrize(
    "path", [".github/workflows/new.yml", ".github/workflows/ci.yml", "CODEOWNERS", "docs/CODEOWNERS", ".gitmodules",
             "deep/.gitattributes", ".GitHub/Workflows/x.yml", ".lfsconfig"],
)  # fmt: skip
def test_protected_paths_need_a_yes_for_exactly_that_path(case: Case, path: str) -> None:
    change: Files = {path: "changed\n", "README.md": "changed\n"}
    with pytest.raises(TreeRefused) as caught:
        case.take(change)
    assert caught.value.protected
    assert caught.value.paths == (path,)
    with pytest.raises(TreeRefused):
        case.take(change, allow=("README.md",))
    assert case.take(change, allow=(path,))


def test_removing_a_protected_file_needs_a_yes_too(case: Case) -> None:
    with pytest.raises(TreeRefused) as caught:
        case.take({".github/workflows/ci.yml": None})
    assert caught.value.protected


def test_a_secret_in_an_added_line_is_named_by_path_and_kind_and_not_shown(case: Case) -> None:
    secret = "ghp_" + "z9Y8" * 9
    with pytest.raises(TreeRefused, match=r"GitHub token.*README\.md") as caught:
        case.take({"README.md": f"# Sample\ntoken = {secret}\n"})
    assert secret not in str(caught.value)


def test_an_unchanged_secret_does_not_block_the_lines_around_it(case: Case) -> None:
    assert case.take({"old-secret.txt": "above\nghp_" + "a1B2" * 9 + "\nbelow\n"})


def test_a_merge_is_judged_by_what_neither_parent_has(case: Case) -> None:
    ours = case.take({"README.md": "# Ours\n"})
    theirs = add_commit(case.bare, {".github/workflows/ci.yml": "on: pull_request\n", "-odd": "x\n"})
    case.workspaces.fetch(case.repository)
    merged = edited(case.bare, case.scratch, theirs, {"README.md": "# Ours\n"})
    sha = case.workspaces.take(BRIEF, case.repository, merged, [ours, theirs], "merge", order=2)
    assert git(case.mirror(), "rev-list", "--parents", "-1", sha).split() == [sha, ours, theirs]
    evil = edited(case.bare, case.scratch, theirs, {".github/workflows/ci.yml": "on: workflow_run\n"})
    with pytest.raises(TreeRefused, match="protected"):
        case.workspaces.take(BRIEF, case.repository, evil, [ours, theirs], "merge", order=2)


def test_spellings_of_the_git_folder() -> None:
    for part in (".git", ".GiT", ".git ", ".git.", ".git::$INDEX_ALLOCATION", "git~1", ".g\u200dit", ".git\\x"):
        assert is_git_folder(part), part
    for part in (".gitignore", ".github", "git", "git~10", ".gitkeep"):
        assert not is_git_folder(part), part


def test_links_that_lead_out() -> None:
    for path, target in [("a", b""), ("a", b".."), ("a/b", b"../.."), ("a", b"x/../../y"), ("a", b"x\0y")]:
        assert leaves_tree(path, target), (path, target)
    for path, target in [("a/b", b".."), ("a", b"b/c"), ("a", b"./b"), ("a/b/c", b"../../x")]:
        assert not leaves_tree(path, target), (path, target)


def test_added_lines_and_printable_paths() -> None:
    assert added_text(b"a\nb\nb\nc\n", [b"b\na\n"]) == "b\nc"
    assert printable("a\nb\udce9 ü") == "a\\nb\\xe9 ü"
