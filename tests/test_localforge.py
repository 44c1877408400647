"""The local forge: pull requests as files beside real repositories, merged with real git."""

from __future__ import annotations

import json
import multiprocessing
import shlex
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from contracts import ANN, ForgeContract, ForgeWorld
from fakes_forge import SAMPLE, MemoryForge
from gitrepos import ENVIRONMENT, add_commit, git, make_repository, repository

from graph.errors import MergeRefused, RepositoryProblem
from graph.ports import Forge
from graph.state import PullRequest, Repository
from integrations.localforge import LocalForge

BRANCH = "threadwright/tw-1"


@dataclass
class LocalWorld:
    forge: LocalForge
    repository: Repository
    bare: Path

    def commit(self, branch: str, path: str, text: str) -> str:
        if not git(self.bare, "for-each-ref", f"refs/heads/{branch}"):
            git(self.bare, "branch", branch, "main")
        return add_commit(self.bare, {path: text}, branch=branch)

    def merge_by_hand(self, branch: str) -> str:
        tree = git(self.bare, "merge-tree", "--write-tree", "main", branch)
        made = git(self.bare, "commit-tree", tree, "-p", "main", "-p", branch, "-m", "by hand")
        git(self.bare, "update-ref", "refs/heads/main", made)
        return made

    def on_base(self, sha: str) -> bool:
        return sha in git(self.bare, "rev-list", "main").splitlines()

    def said(self, number: int) -> list[str]:
        return self.forge.comments(self.repository, number)


@dataclass
class MemoryWorld:
    forge: MemoryForge
    repository: Repository

    def commit(self, branch: str, path: str, text: str) -> str:
        return self.forge.commit(branch, path, text)

    def merge_by_hand(self, branch: str) -> str:
        return self.forge.join(branch, "main")

    def on_base(self, sha: str) -> bool:
        return self.forge.contains("main", sha)

    def said(self, number: int) -> list[str]:
        return self.forge.pulls[number].comments


def make_world(folder: Path) -> LocalWorld:
    bare = make_repository(folder / "sample.git", {"a.txt": "first\n"})
    return LocalWorld(LocalForge(folder), repository(bare), bare)


class TestLocalForgeKeepsTheContract(ForgeContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> ForgeWorld:
        return make_world(tmp_path)


class TestMemoryForgeKeepsTheContract(ForgeContract):
    @pytest.fixture
    def world(self) -> ForgeWorld:
        return MemoryWorld(MemoryForge(), SAMPLE)


@pytest.fixture
def world(tmp_path: Path) -> LocalWorld:
    return make_world(tmp_path)


def approved(world: LocalWorld) -> PullRequest:
    return ForgeContract().approved(world)


# Files


def test_a_pull_request_is_a_page_that_a_person_can_read_and_survives_a_restart(
    world: LocalWorld, tmp_path: Path
) -> None:
    pull = approved(world)
    world.forge.comment(world.repository, pull.number, "Looks fine.", marker="m1")
    assert pull.url == (tmp_path / "sample.git.pulls" / "1.md").as_uri()
    page = (tmp_path / "sample.git.pulls" / "1.md").read_text()
    for words in ("# Fix it (#1)", "The body", "approved by Ann", "Looks fine.", pull.head[:12]):
        assert words in page
    assert LocalForge(tmp_path).pull_request(world.repository, 1) == pull
    assert json.loads((tmp_path / "sample.git.pulls" / "1.json").read_text())["title"] == "Fix it"


def test_the_merge_commit_is_real_and_signed_by_the_forge(world: LocalWorld) -> None:
    pull = approved(world)
    base = world.commit("main", "other.txt", "x\n")
    merged = world.forge.merge(world.repository, pull.number, pull.head, "Fix it")
    assert git(world.bare, "rev-parse", "main") == merged.merge_commit
    assert git(world.bare, "log", "-1", "--format=%cn|%P|%s", merged.merge_commit) == (
        f"Threadwright forge|{base} {pull.head}|Fix it"
    )
    assert git(world.bare, "show", "main:a.txt") == "changed"


def _propose(folder: Path, where: Repository, number: int) -> None:
    bare = folder / "sample.git"
    branch = f"threadwright/tw-{number % 4}"
    head = git(bare, "rev-parse", branch)
    LocalForge(folder).propose(where, branch, head, "main", f"Title {number}", "", draft=True)


def test_processes_that_propose_at_once_make_one_pull_request_a_branch(world: LocalWorld, tmp_path: Path) -> None:
    for number in range(4):
        world.commit(f"threadwright/tw-{number}", f"{number}.txt", "x\n")
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_propose, args=(tmp_path, world.repository, n)) for n in range(12)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 12
    pulls = [world.forge.pull_request(world.repository, number) for number in (1, 2, 3, 4)]
    assert sorted(pull.branch for pull in pulls) == [f"threadwright/tw-{n}" for n in range(4)]
    with pytest.raises(RepositoryProblem):
        world.forge.pull_request(world.repository, 5)


def _merge(folder: Path, where: Repository, head: str, search_path: str) -> None:
    LocalForge(folder, search_path=search_path).merge(where, 1, head, "Fix it")


@pytest.mark.parametrize("moment", ["commit-tree", "update-ref"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_around_the_merge_ends_with_one_merge_commit(
    world: LocalWorld, tmp_path: Path, moment: str, when: str
) -> None:
    pull = approved(world)
    tools = tmp_path / "tools"
    tools.mkdir()
    act = "kill -9 $PPID; exit 1" if when == "before" else '/usr/bin/git "$@"; kill -9 $PPID; exit 1'
    (tools / "git").write_text(
        f'#!/bin/sh\nfor word in "$@"; do if [ "$word" = {moment} ]; then {act}; fi; done\nexec /usr/bin/git "$@"\n'
    )
    (tools / "git").chmod(0o755)
    arguments = (tmp_path, world.repository, pull.head, f"{tools}:/usr/bin:/bin")
    process = multiprocessing.get_context("fork").Process(target=_merge, args=arguments)
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    moved = git(world.bare, "rev-list", "--merges", "--count", "main") == "1"
    assert moved == (moment == "update-ref" and when == "after")
    merged = world.forge.merge(world.repository, 1, pull.head, "Fix it")
    assert merged.state == "merged"
    assert git(world.bare, "rev-parse", "main") == merged.merge_commit
    assert git(world.bare, "rev-list", "--merges", "--count", "main") == "1"


# A repository with a checkout


@pytest.fixture
def checkout(world: LocalWorld, tmp_path: Path) -> LocalWorld:
    git(tmp_path, "clone", "-q", str(world.bare), "my work")
    path = tmp_path / "my work"
    return LocalWorld(world.forge, repository(path), path)


def test_a_base_that_is_checked_out_is_not_moved_and_the_command_given_merges_it(checkout: LocalWorld) -> None:
    pull = approved(checkout)
    assert pull.url.endswith("/.git/threadwright/1.md")
    with pytest.raises(MergeRefused, match="checked out") as caught:
        checkout.forge.merge(checkout.repository, 1, pull.head, "Fix it")
    assert git(checkout.bare, "status", "--porcelain") == ""
    command = str(caught.value).split("Merge it there: ")[1]
    subprocess.run(shlex.split(command), env=ENVIRONMENT, check=True, capture_output=True)
    merged = checkout.forge.merge(checkout.repository, 1, pull.head, "Fix it")
    assert merged.state == "merged"
    assert merged.merge_commit == git(checkout.bare, "rev-parse", "main")


def test_with_another_branch_checked_out_the_merge_goes_through(checkout: LocalWorld) -> None:
    git(checkout.bare, "checkout", "-q", "-b", "other")
    pull = approved(checkout)
    assert checkout.forge.merge(checkout.repository, 1, pull.head, "Fix it").state == "merged"
    assert git(checkout.bare, "status", "--porcelain") == ""


def test_a_base_that_is_checked_out_in_a_linked_worktree_is_not_moved(checkout: LocalWorld, tmp_path: Path) -> None:
    git(checkout.bare, "checkout", "-q", "-b", "other")
    git(checkout.bare, "worktree", "add", "-q", str(tmp_path / "linked"), "main")
    pull = approved(checkout)
    with pytest.raises(MergeRefused, match=r"checked out in .*linked"):
        checkout.forge.merge(checkout.repository, 1, pull.head, "Fix it")
    linked = repository(tmp_path / "linked")
    assert checkout.forge.pull_request(linked, 1) == checkout.forge.pull_request(checkout.repository, 1)


def test_a_push_that_comes_in_between_is_not_thrown_away(world: LocalWorld, tmp_path: Path) -> None:
    pull = approved(world)
    tools = tmp_path / "tools"
    tools.mkdir()
    other = world.commit("elsewhere", "other.txt", "x\n")
    # Moves the base right before the forge does.
    act = f"/usr/bin/git --git-dir={world.bare} update-ref refs/heads/main {other}"
    (tools / "git").write_text(
        f'#!/bin/sh\nfor word in "$@"; do if [ "$word" = update-ref ]; then {act}; fi; done\nexec /usr/bin/git "$@"\n'
    )
    (tools / "git").chmod(0o755)
    with pytest.raises(MergeRefused, match="moved just now"):
        LocalForge(tmp_path, search_path=f"{tools}:/usr/bin:/bin").merge(world.repository, 1, pull.head, "Fix it")
    assert git(world.bare, "rev-parse", "main") == other


def test_unrelated_histories_are_refused(world: LocalWorld) -> None:
    add_commit(world.bare, {"x": "1\n"}, branch="orphan")
    forge: Forge = world.forge
    pull = forge.propose(
        world.repository, "orphan", git(world.bare, "rev-parse", "orphan"), "main", "t", "", draft=False
    )
    forge.approve(world.repository, pull.number, pull.head, ANN)
    with pytest.raises(MergeRefused, match="unrelated histories"):
        forge.merge(world.repository, pull.number, pull.head, "t")


# Names and paths


def test_repositories_are_found_by_name_in_the_folder(tmp_path: Path) -> None:
    make_repository(tmp_path / "one.git", {"a": "1"})
    make_repository(tmp_path / "acme" / "api.git", {"a": "1"})
    make_repository(tmp_path / "acme" / "plain", {"a": "1"})
    (tmp_path / "notes").mkdir()
    forge = LocalForge(tmp_path)
    world = forge.resolve("one", allow_paths=False)
    head = add_commit(tmp_path / "one.git", {"b": "1"}, branch="topic")
    with pytest.raises(RepositoryProblem):
        forge.propose(world, "topic", "1" * 40, "main", "t", "b", draft=True)
    git(tmp_path / "one.git", "update-ref", "refs/heads/topic", head)
    assert forge.repositories() == ["acme/api", "acme/plain", "one"]
    assert forge.resolve("acme/api", allow_paths=False) == Repository(
        name="acme/api", url=(tmp_path / "acme" / "api.git").as_uri()
    )
    assert forge.resolve("one.git", allow_paths=False).name == "one"


@pytest.mark.parametrize("text", ["../secret", "/etc", "nothing", "a/b/c", ".git", "", "file:///etc"])
def test_paths_are_refused_unless_allowed(tmp_path: Path, text: str) -> None:
    make_repository(tmp_path / "secret.git", {"a": "1"})
    (tmp_path / "folder").mkdir()
    with pytest.raises(RepositoryProblem, match="know no repository"):
        LocalForge(tmp_path / "folder").resolve(text, allow_paths=False)


def test_paths_and_file_addresses_work_where_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = make_repository(tmp_path / "a b.git", {"src/x": "1"})
    git(tmp_path, "clone", "-q", str(bare), "work")
    forge = LocalForge(None)
    assert forge.repositories() == []
    for text in (str(bare), bare.as_uri()):
        assert forge.resolve(text, allow_paths=True) == Repository(name="a b", url=bare.as_uri())
    monkeypatch.chdir(tmp_path / "work" / "src")
    for text in (".", str(tmp_path / "work"), str(tmp_path / "work" / ".git"), ".."):
        assert forge.resolve(text, allow_paths=True) == Repository(name="work", url=(tmp_path / "work").as_uri())


def test_other_addresses_and_wrong_paths_are_told_in_plain_words(tmp_path: Path) -> None:
    forge = LocalForge(None)
    with pytest.raises(RepositoryProblem, match="another forge"):
        forge.resolve("https://example.com/acme/api", allow_paths=True)
    with pytest.raises(RepositoryProblem, match="does not exist"):
        forge.resolve(str(tmp_path / "none"), allow_paths=True)
    with pytest.raises(RepositoryProblem, match="not a git repository"):
        forge.resolve(str(tmp_path), allow_paths=True)
    with pytest.raises(RepositoryProblem, match="no local git repository"):
        forge.pull_request(Repository(name="x", url="https://example.com/x"), 1)
