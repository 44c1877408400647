"""Fetching mirrors: branches, default branches, plain words for what is wrong, one writer at a time."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from gitrepos import add_commit, clone, git, make_repository, repository

from graph.errors import RepositoryProblem
from graph.state import Brief, Person, Repository
from integrations.git import GitWorkspaces
from integrations.gitcommand import SEARCH_PATH

BRIEF = Brief(
    id="tw-abcd",
    text="do it",
    requester=Person(id="console:local:ann"),
    created=datetime(2026, 11, 1, 12, 0, tzinfo=UTC),
)


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "sample.git", {"README.md": "# Sample\n", "src/a.py": "a = 1\n"})


@pytest.fixture
def workspaces(tmp_path: Path) -> GitWorkspaces:
    return GitWorkspaces(tmp_path / "home")


def test_the_default_branch_is_found_and_later_commits_are_fetched(tmp_path: Path, workspaces: GitWorkspaces) -> None:
    bare = make_repository(tmp_path / "sample.git", {"a": "1\n"}, branch="trunk")
    where, first = workspaces.fetch(repository(bare))
    assert where.base == "trunk"
    assert first == git(bare, "rev-parse", "trunk")
    second = add_commit(bare, {"a": "2\n"}, branch="trunk")
    assert workspaces.fetch(where) == (where, second)


def test_deleted_and_rewritten_branches_follow(bare: Path, workspaces: GitWorkspaces) -> None:
    git(bare, "branch", "topic", "main")
    where, base = workspaces.fetch(repository(bare))
    mirror = workspaces.workspace(BRIEF.id, where, base).mirror
    git(bare, "branch", "-D", "topic")
    git(bare, "branch", "topic/below", "main")
    workspaces.fetch(where)
    assert git(mirror, "for-each-ref", "--format=%(refname)") == "refs/heads/main\nrefs/heads/topic/below"


def test_a_mirror_has_no_hooks_and_clones_at_its_default_branch(
    bare: Path, tmp_path: Path, workspaces: GitWorkspaces
) -> None:
    where, base = workspaces.fetch(repository(bare))
    mirror = workspaces.workspace(BRIEF.id, where, base).mirror
    assert not (mirror / "hooks").exists()
    assert git(clone(mirror, tmp_path / "clone"), "rev-parse", "HEAD") == base


@pytest.mark.parametrize(
    ("make", "branch", "words"),
    [
        (lambda path: None, "", "does not exist"),
        (lambda path: path.mkdir(), "", "is not a git repository"),
        (make_repository, "", "no commits yet: push a first commit"),
        (lambda path: make_repository(path, {"a": "1"}, branch="develop"), "devlop", "The closest are: `develop`"),
        (lambda path: make_repository(path, {"a": "1"}), "zzz", "There are: `main`"),
    ],
)
def test_problems_are_told_in_plain_words(
    tmp_path: Path, workspaces: GitWorkspaces, make: object, branch: str, words: str
) -> None:
    make(tmp_path / "x")  # type: ignore[operator]
    with pytest.raises(RepositoryProblem, match=words):
        workspaces.fetch(repository(tmp_path / "x", "x"), branch)


def test_a_head_that_names_no_branch_is_asked_about_unless_there_is_one_branch(
    tmp_path: Path, bare: Path, workspaces: GitWorkspaces
) -> None:
    git(bare, "symbolic-ref", "HEAD", "refs/heads/gone")
    assert workspaces.fetch(repository(bare))[0].base == "main"
    git(bare, "branch", "other", "main")
    with pytest.raises(RepositoryProblem, match=r"without commits.*branch="):
        workspaces.fetch(repository(bare))
    git(bare, "update-ref", "--no-deref", "HEAD", "refs/heads/main")
    with pytest.raises(RepositoryProblem, match="detached"):
        workspaces.fetch(repository(bare))
    assert workspaces.fetch(repository(bare), "other")[0].base == "other"


def test_a_repository_with_a_checkout_works_too_and_a_shallow_one_says_what_to_do(
    tmp_path: Path, bare: Path, workspaces: GitWorkspaces
) -> None:
    add_commit(bare, {"b": "1\n"})
    git(tmp_path, "clone", "-q", str(bare), "full")
    assert workspaces.fetch(repository(tmp_path / "full"))[0].base == "main"
    git(tmp_path, "clone", "-q", "--depth=1", bare.as_uri(), "shallow")
    with pytest.raises(RepositoryProblem, match="unshallow"):
        workspaces.fetch(repository(tmp_path / "shallow", "shallow"))


def test_a_folder_with_spaces_percent_and_hash_in_its_name(tmp_path: Path, workspaces: GitWorkspaces) -> None:
    bare = make_repository(tmp_path / "a b%20#?c.git", {"a": "1\n"})
    assert workspaces.fetch(repository(bare))[1] == git(bare, "rev-parse", "main")


@pytest.mark.parametrize(
    "url", ["ext::sh -c id", "ssh://host/x", "https://example.invalid/x.git", "/etc", "--upload-pack=x"]
)
def test_other_transports_are_refused(workspaces: GitWorkspaces, url: str) -> None:
    with pytest.raises(RepositoryProblem, match="addresses only"):
        workspaces.fetch(Repository(name="x", url=url))


def test_an_old_history_with_known_flaws_is_fetched(tmp_path: Path, workspaces: GitWorkspaces) -> None:
    bare = make_repository(tmp_path / "old.git", {"a": "1\n"})
    tree = git(bare, "rev-parse", "main^{tree}")
    data = f"tree {tree}\nauthor A <a@b> 1300000000 +051800\ncommitter A <a@b> 1300000000 +051800\n\nold\n".encode()
    sha = git(bare, "hash-object", "-t", "commit", "-w", "--literally", "--stdin", stdin=data)
    git(bare, "update-ref", "refs/heads/main", sha)
    assert workspaces.fetch(repository(bare))[1] == sha


def _fetch(home: Path, bare: Path, search_path: str = SEARCH_PATH) -> None:
    GitWorkspaces(home, search_path=search_path).fetch(repository(bare))


def test_processes_that_fetch_at_once_make_one_mirror(tmp_path: Path, bare: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_fetch, args=(tmp_path / "home", bare)) for _ in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 6
    assert len(list((tmp_path / "home" / "mirrors").glob("*.git"))) == 1


def _holds(lock: Path) -> bool:
    with lock.open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _until(condition: object) -> None:
    deadline = time.monotonic() + 20
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_mirror_stays_locked_while_the_git_of_a_killed_worker_is_still_at_work(bare: Path, tmp_path: Path) -> None:
    GitWorkspaces(tmp_path / "home").fetch(repository(bare))
    (lock,) = (tmp_path / "home" / "mirrors").glob("*.lock")
    assert not _holds(lock)
    tools = tmp_path / "tools"
    tools.mkdir()
    started, go_on = tmp_path / "started", tmp_path / "go-on"
    os.mkfifo(go_on)
    (tools / "git").write_text(
        f'#!/bin/sh\nfor word in "$@"; do [ "$word" = fetch ] && touch {started} && read line < {go_on}; done\n'
        'exec /usr/bin/git "$@"\n'
    )
    (tools / "git").chmod(0o755)
    arguments = (tmp_path / "home", bare, f"{tools}:/usr/bin:/bin")
    worker = multiprocessing.get_context("fork").Process(target=_fetch, args=arguments)
    worker.start()
    _until(started.exists)
    worker.kill()
    worker.join()
    assert worker.exitcode == -signal.SIGKILL
    assert _holds(lock)
    go_on.write_text("now\n")
    _until(lambda: not _holds(lock))


def test_the_mirror_is_readable_for_the_sandboxs_user_under_any_umask(tmp_path: Path, bare: Path) -> None:
    script = f"""
import os, sys
from pathlib import Path
os.umask(0o077)
sys.path.insert(0, "tests")
from gitrepos import edited, repository
from test_gitfetch import BRIEF
from integrations.git import GitWorkspaces
bare = Path({str(bare)!r})
workspaces = GitWorkspaces(Path({str(tmp_path / "home")!r}))
where, base = workspaces.fetch(repository(bare))
pack = edited(bare, Path({str(tmp_path / "scratch")!r}), base, {{"b": "1"}})
workspaces.take(BRIEF, where, pack, [base], "fix: it", order=1)
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parent.parent)
    (mirror,) = (tmp_path / "home" / "mirrors").glob("*.git")
    assert mirror.parent.stat().st_mode & 0o001
    for path in (mirror, *mirror.rglob("*")):
        needed = 0o005 if path.is_dir() else 0o004
        assert path.stat().st_mode & needed == needed, path


def test_git_inherits_no_variable_of_this_process(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workspaces: GitWorkspaces
) -> None:
    seen = tmp_path / "seen"
    (tmp_path / "tools").mkdir()
    tool = tmp_path / "tools" / "git"
    tool.write_text(f'#!/bin/sh\nenv >> {seen}\nexec /usr/bin/git "$@"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("CANARY_TOKEN", "do-not-inherit")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    GitWorkspaces(tmp_path / "home", search_path=f"{tmp_path}/tools:/usr/bin:/bin").fetch(repository(bare))
    assert "GIT_CONFIG_NOSYSTEM=1" in seen.read_text()
    assert "CANARY_TOKEN" not in seen.read_text()
    assert "nowhere" not in seen.read_text()
    control = subprocess.run([tool, "version"], capture_output=True, check=True)
    assert control.stdout
    assert "CANARY_TOKEN" in seen.read_text(), "the canary would not be seen"
