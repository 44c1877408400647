"""Commits, pushes and cleaning up on the bot's side, against real git."""

from __future__ import annotations

import multiprocessing
import os
import signal
import stat
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from gitrepos import ENVIRONMENT, Submodule, add_commit, clone, edited, export, git, make_repository, repository

from graph.errors import BadInput, PushRefused, TreeRefused
from graph.ports import TreePack
from graph.state import Brief, Person, Repository
from integrations.git import GitWorkspaces

BRIEF = Brief(
    id="tw-abcd",
    text="do it",
    requester=Person(id="console:local:ann"),
    created=datetime(2026, 11, 1, 12, 0, tzinfo=UTC),
)
BRANCH = "threadwright/tw-abcd"


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "sample.git", {"README.md": "# Sample\n", "src/a.py": "a = 1\n"})


@pytest.fixture
def workspaces(tmp_path: Path) -> GitWorkspaces:
    return GitWorkspaces(tmp_path / "home")


def step(
    workspaces: GitWorkspaces, where: Repository, pack: TreePack, parent: str, order: int = 1, message: str = "fix: it"
) -> str:
    return workspaces.take(BRIEF, where, pack, [parent], message, order=order)


# Taking


def test_a_tree_becomes_a_commit_with_fixed_author_and_dates_and_the_same_call_gives_the_same_commit(
    bare: Path, tmp_path: Path, workspaces: GitWorkspaces
) -> None:
    where, base = workspaces.fetch(repository(bare))
    pack = edited(bare, tmp_path / "scratch", base, {"src/a.py": "a = 2\n"})
    sha = step(workspaces, where, pack, base, 3, "fix: ä\n\nTask-Id: tw-abcd\n")
    assert step(workspaces, where, pack, base, 3, "fix: ä\n\nTask-Id: tw-abcd\n") == sha
    assert workspaces.kept(BRIEF.id, where) == sha
    other = GitWorkspaces(tmp_path / "elsewhere")
    other.fetch(where)
    assert step(other, where, pack, base, 3, "fix: ä\n\nTask-Id: tw-abcd\n") == sha
    mirror = workspaces.workspace(BRIEF.id, where, sha).mirror
    created = int(BRIEF.created.timestamp()) + 3
    assert git(mirror, "log", "-1", "--format=%an|%ae|%at|%cn|%ct|%P|%s", sha) == (
        f"Threadwright|threadwright@users.noreply.invalid|{created}|Threadwright|{created}|{base}|fix: ä"
    )


def test_an_unchanged_tree_gives_the_first_parent(bare: Path, tmp_path: Path, workspaces: GitWorkspaces) -> None:
    where, base = workspaces.fetch(repository(bare))
    assert step(workspaces, where, edited(bare, tmp_path / "scratch", base, {}), base) == base
    assert workspaces.kept(BRIEF.id, where) == base


def test_a_second_step_and_a_return_to_an_earlier_tree(bare: Path, tmp_path: Path, workspaces: GitWorkspaces) -> None:
    where, base = workspaces.fetch(repository(bare))
    first = step(workspaces, where, edited(bare, tmp_path / "s1", base, {"b": "1\n"}), base)
    mirror = workspaces.workspace(BRIEF.id, where, first).mirror
    second = step(workspaces, where, edited(mirror, tmp_path / "s2", first, {"c": "2\n"}), first, 2)
    back = step(workspaces, where, edited(mirror, tmp_path / "s3", second, {"b": None, "c": None}), second, 3)
    assert git(mirror, "rev-parse", f"{back}^{{tree}}") == git(mirror, "rev-parse", f"{base}^{{tree}}")
    assert git(mirror, "rev-list", "--count", back) == "4"


def test_a_checkout_with_submodule_crlf_and_odd_names_comes_back_as_it_was(
    tmp_path: Path, workspaces: GitWorkspaces
) -> None:
    files = {"crlf.txt": "one\r\ntwo\r\n", b"\xff\n.txt": "odd\n", "sub": Submodule("1" * 40), "ignored.log": "kept\n"}
    bare = make_repository(tmp_path / "odd.git", {**files, ".gitignore": "*.log\n", ".gitattributes": "* text=auto\n"})
    where, base = workspaces.fetch(repository(bare))
    workspace = workspaces.workspace(BRIEF.id, where, base)
    checkout = clone(workspace.mirror, workspace.root / "checkout", base)
    (checkout / "new.txt").write_text("new\n")
    sha = step(workspaces, where, export(checkout, base), base)
    assert git(workspace.mirror, "diff-tree", "-r", "--name-status", base, sha) == "A\tnew.txt"


def _take(home: Path, bare: Path, pack: TreePack, base: str, search_path: str) -> None:
    step(GitWorkspaces(home, search_path=search_path), repository(bare).model_copy(update={"base": "main"}), pack, base)


@pytest.mark.parametrize("moment", ["index-pack", "cat-file", "commit-tree", "update-ref"])
def test_a_kill_between_quarantine_and_commit_leaves_one_commit_after_the_second_run(
    bare: Path, tmp_path: Path, workspaces: GitWorkspaces, moment: str
) -> None:
    where, base = workspaces.fetch(repository(bare))
    pack = edited(bare, tmp_path / "scratch", base, {"src/a.py": "a = 2\n"})
    # A git that kills whoever called it as soon as it is told to do `moment`; -9 to the parent, that is the worker.
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "git").write_text(
        f'#!/bin/sh\nfor word in "$@"; do [ "$word" = {moment} ] && kill -9 $PPID && exit 1; done\n'
        'exec /usr/bin/git "$@"\n'
    )
    (tools / "git").chmod(0o755)
    arguments = (tmp_path / "home", bare, pack, base, f"{tools}:/usr/bin:/bin")
    process = multiprocessing.get_context("fork").Process(target=_take, args=arguments)
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    assert workspaces.kept(BRIEF.id, where) == ""
    sha = step(workspaces, where, pack, base)
    assert workspaces.kept(BRIEF.id, where) == sha
    assert step(workspaces, where, pack, base) == sha
    mirror = workspaces.workspace(BRIEF.id, where, sha).mirror
    commits = git(mirror, "cat-file", "--batch-all-objects", "--batch-check=%(objecttype) %(objectname)")
    assert sorted(line.split()[1] for line in commits.splitlines() if line.startswith("commit")) == sorted([base, sha])


def test_a_lock_file_of_a_killed_git_does_not_block_the_ref(
    bare: Path, tmp_path: Path, workspaces: GitWorkspaces
) -> None:
    where, base = workspaces.fetch(repository(bare))
    pack = edited(bare, tmp_path / "scratch", base, {"b": "1\n"})
    mirror = workspaces.workspace(BRIEF.id, where, base).mirror
    stale = mirror / "refs" / "threadwright" / BRIEF.id / "wip.lock"
    stale.parent.mkdir(parents=True)
    stale.touch()
    control = subprocess.run(
        ["git", "update-ref", f"refs/threadwright/{BRIEF.id}/wip", base], cwd=mirror, env=ENVIRONMENT, check=False,
        capture_output=True,
    )  # fmt: skip
    assert control.returncode != 0, "the planted lock blocks nothing"
    assert workspaces.kept(BRIEF.id, where) == ""
    assert step(workspaces, where, pack, base) == workspaces.kept(BRIEF.id, where)


def test_task_ids_and_commits_that_are_none_are_refused(bare: Path, workspaces: GitWorkspaces) -> None:
    where, base = workspaces.fetch(repository(bare))
    for task in ("../../etc", "a/b", "", "-x", "x.lock", "x\n"):
        with pytest.raises(BadInput):
            workspaces.workspace(task, where, base)
        with pytest.raises(BadInput):
            workspaces.drop(task, where)
    for commit in ("main", "0" * 40, "--help", base[:10]):
        with pytest.raises(BadInput, match="no commit"):
            workspaces.workspace("tw-x", where, commit)


# The checkout is hostile data


def _plant(checkout: Path, proof: Path) -> None:
    """Commands in every place of a checkout's git that a later git may look at; each leaves a file in `proof`."""

    def command(name: str) -> str:
        script = checkout / ".git" / f"run-{name}"
        script.write_text(f"#!/bin/sh\ntouch {proof}/{name}\ncat\n")
        script.chmod(0o755)
        return str(script)

    proof.mkdir()
    settings = {
        "core.fsmonitor": command("fsmonitor"),
        "filter.evil.clean": command("clean"),
        "filter.evil.smudge": command("smudge"),
        "diff.evil.textconv": command("textconv"),
        "diff.evil.command": command("diff"),
        "diff.external": command("external"),
        "credential.helper": "!" + command("credential"),
        "core.pager": command("pager"),
        "core.sshCommand": command("ssh"),
        "remote.origin.uploadpack": command("uploadpack"),
        "remote.origin.receivepack": command("receivepack"),
    }
    for name, value in settings.items():
        git(checkout, "config", name, value)
    for hook in ("pre-commit", "post-commit", "pre-push", "post-index-change", "reference-transaction", "commit-msg"):
        planted = checkout / ".git" / "hooks" / hook
        planted.write_text(f"#!/bin/sh\ntouch {proof}/{hook}\n")
        planted.chmod(0o755)
    (checkout / ".gitattributes").write_text("* filter=evil diff=evil\n")


def test_commands_planted_in_a_checkout_never_run_on_the_bots_side(
    bare: Path, tmp_path: Path, workspaces: GitWorkspaces
) -> None:
    where, base = workspaces.fetch(repository(bare))
    workspace = workspaces.workspace(BRIEF.id, where, base)
    checkout = clone(workspace.mirror, workspace.root / "checkout", base)
    pack = edited(workspace.mirror, tmp_path / "scratch", base, {"b": "1\n", ".gitattributes": "* diff=evil\n"})
    proof = tmp_path / "proof"
    _plant(checkout, proof)
    workspaces.fetch(where)
    sha = workspaces.take(BRIEF, where, pack, [base], "fix: it", order=1, allow=(".gitattributes",))
    assert workspaces.changes(where, base, sha).files == 2
    workspaces.push(where, sha, BRANCH)
    assert list(proof.iterdir()) == []
    # The control: what a naive bot does with the very same checkout.
    for naive in (["status"], ["add", "-A"], ["diff", "HEAD"]):
        subprocess.run(["git", *naive], cwd=checkout, env=ENVIRONMENT, capture_output=True, check=False)
    ran = {path.name for path in proof.iterdir()}
    assert {"fsmonitor", "clean", "external"} <= ran or {"fsmonitor", "clean", "diff"} <= ran
    workspaces.drop(BRIEF.id, where)
    assert not workspace.root.exists()
    assert workspaces.kept(BRIEF.id, where) == ""


# Changes and pushes


def test_changes_are_a_diff_with_counts(bare: Path, tmp_path: Path, workspaces: GitWorkspaces) -> None:
    where, base = workspaces.fetch(repository(bare))
    files = {"src/a.py": "a = 2\nb = 3\n", "README.md": None, "pic.bin": b"\0\1\2", "n\nl": "x\n"}
    # A name with a line end would be refused as a commit: made here in the forge, as somebody else's.
    head = add_commit(bare, files)
    workspaces.fetch(where)
    changes = workspaces.changes(where, base, head)
    assert (changes.files, changes.added, changes.removed) == (4, 3, 2)
    assert "+b = 3" in changes.diff
    assert "Binary files" in changes.diff
    assert "\x1b" not in changes.diff


def test_a_tree_cannot_hide_its_text_from_the_diff(bare: Path, workspaces: GitWorkspaces) -> None:
    where, base = workspaces.fetch(repository(bare))
    head = add_commit(bare, {".gitattributes": "* -diff\n", "src/a.py": "evil = 1\n"})
    workspaces.fetch(where)
    assert "+evil = 1" in workspaces.changes(where, base, head).diff


def test_pushing_is_a_fast_forward_and_pushing_again_changes_nothing(
    bare: Path, tmp_path: Path, workspaces: GitWorkspaces
) -> None:
    where, base = workspaces.fetch(repository(bare))
    first = step(workspaces, where, edited(bare, tmp_path / "s", base, {"b": "1\n"}), base)
    workspaces.push(where, first, BRANCH)
    workspaces.push(where, first, BRANCH)
    assert git(bare, "rev-parse", BRANCH) == first
    foreign = add_commit(bare, {"theirs": "1\n"}, branch=BRANCH)
    for sha in (first, step(workspaces, where, edited(bare, tmp_path / "s2", first, {"c": "1\n"}), first, 2)):
        with pytest.raises(PushRefused, match="do not build on"):
            workspaces.push(where, sha, BRANCH)
    assert git(bare, "rev-parse", BRANCH) == foreign


def test_a_hook_of_the_forge_that_declines_is_quoted(bare: Path, tmp_path: Path, workspaces: GitWorkspaces) -> None:
    where, base = workspaces.fetch(repository(bare))
    sha = step(workspaces, where, edited(bare, tmp_path / "s", base, {"b": "1\n"}), base)
    hook = bare / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho 'Pushes are closed until Monday.' >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(PushRefused, match=r"Pushes are closed until Monday\. \(pre-receive hook declined\)"):
        workspaces.push(where, sha, BRANCH)


@pytest.mark.parametrize("branch", ["main", "threadwright/../main", "threadwright/a b", "+threadwright/x", ""])
def test_only_branches_of_ours_are_pushed(bare: Path, workspaces: GitWorkspaces, branch: str) -> None:
    where, base = workspaces.fetch(repository(bare))
    with pytest.raises(PushRefused, match="begin with"):
        workspaces.push(where, base, branch)


# Cleaning up


def test_dropping_removes_what_a_hostile_process_left(bare: Path, tmp_path: Path, workspaces: GitWorkspaces) -> None:
    where, base = workspaces.fetch(repository(bare))
    workspace = workspaces.workspace(BRIEF.id, where, base)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    (workspace.root / "link").symlink_to(outside)
    closed = workspace.root / "closed"
    (closed / "in").mkdir(parents=True)
    closed.chmod(0)
    deep = os.open(workspace.root, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=deep)
        deeper = os.open("d", os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = deeper
    os.close(deep)
    workspaces.drop(BRIEF.id, where)
    assert not workspace.root.exists()
    assert (outside / "precious").exists()
    workspaces.drop(BRIEF.id, where)


def test_the_workspace_is_closed_to_others_and_owned_by_the_sandboxs_user(bare: Path, tmp_path: Path) -> None:
    uid = os.getuid() or 12345
    workspaces = GitWorkspaces(tmp_path / "home", workspace_uid=uid)
    where, base = workspaces.fetch(repository(bare))
    status = workspaces.workspace(BRIEF.id, where, base).root.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o700, uid)


def test_the_janitor_removes_orphans_and_nothing_young_or_kept(
    bare: Path, tmp_path: Path, workspaces: GitWorkspaces
) -> None:
    where, base = workspaces.fetch(repository(bare))
    pack = edited(bare, tmp_path / "s", base, {"b": "1\n"})
    roots = {}
    for task in ("tw-kept", "tw-orphan", "tw-young"):
        roots[task] = workspaces.workspace(task, where, base).root
        workspaces.take(BRIEF.model_copy(update={"id": task}), where, pack, [base], "fix: it", order=1)
    for task in ("tw-kept", "tw-orphan"):
        os.utime(roots[task], (0, 0))
        os.utime(tmp_path / "home" / "quarantine" / f"{task}.lock", (0, 0))
    assert workspaces.janitor({"tw-kept"}) == ["tw-orphan"]
    assert {task: root.exists() for task, root in roots.items()} == {
        "tw-kept": True, "tw-orphan": False, "tw-young": True,
    }  # fmt: skip
    assert [bool(workspaces.kept(task, where)) for task in roots] == [True, False, True]
    assert workspaces.janitor({"tw-kept"}) == []


def test_a_lost_workspace_is_rebuilt_from_the_kept_commit(
    bare: Path, tmp_path: Path, workspaces: GitWorkspaces
) -> None:
    where, base = workspaces.fetch(repository(bare))
    sha = step(workspaces, where, edited(bare, tmp_path / "s", base, {"b": "1\n"}), base)
    workspace = workspaces.workspace(BRIEF.id, where, workspaces.kept(BRIEF.id, where))
    git(workspace.root, "clone", "-q", "--no-checkout", str(workspace.mirror), "checkout")
    git(workspace.root / "checkout", "fetch", "-q", "origin", sha)
    git(workspace.root / "checkout", "checkout", "-q", workspace.commit)
    assert (workspace.root / "checkout" / "b").read_text() == "1\n"


def test_a_refused_tree_leaves_no_object_behind(bare: Path, tmp_path: Path, workspaces: GitWorkspaces) -> None:
    where, base = workspaces.fetch(repository(bare))
    mirror = workspaces.workspace(BRIEF.id, where, base).mirror
    before = git(mirror, "cat-file", "--batch-all-objects", "--batch-check")
    with pytest.raises(TreeRefused):
        step(workspaces, where, edited(bare, tmp_path / "s", base, {"-x": "1\n"}), base)
    assert git(mirror, "cat-file", "--batch-all-objects", "--batch-check") == before
    assert list((tmp_path / "home" / "quarantine").glob("tw-abcd/**")) == []
