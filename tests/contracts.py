"""What every adapter of a port must do, whoever it speaks to. Each is run over the real ones and over the fakes."""

from __future__ import annotations

from typing import Protocol

import pytest

from graph.errors import MergeRefused, RepositoryProblem
from graph.ports import Forge
from graph.state import Person, PullRequest, Repository

ANN = Person(id="console:local:ann", name="Ann")
BEN = Person(id="console:local:ben", name="Ben")


class ForgeWorld(Protocol):
    """A forge with one repository, whose base branch `main` has a first commit."""

    forge: Forge
    repository: Repository

    def commit(self, branch: str, path: str, text: str) -> str:
        """Commit a file onto `branch`, which begins at `main` when it is new; gives the SHA."""
        ...

    def merge_by_hand(self, branch: str) -> str:
        """Merge into `main` past the forge; gives the merge commit."""
        ...

    def on_base(self, sha: str) -> bool: ...

    def said(self, number: int) -> list[str]:
        """The comments of a pull request."""
        ...


class ForgeContract:
    """Subclasses have a fixture `world` that gives a `ForgeWorld`."""

    @staticmethod
    def propose(world: ForgeWorld, head: str, branch: str = "threadwright/tw-1", title: str = "Fix it") -> PullRequest:
        return world.forge.propose(world.repository, branch, head, "main", title, "The body", draft=True)

    def approved(self, world: ForgeWorld) -> PullRequest:
        """A pull request that is ready and approved."""
        pull = self.propose(world, world.commit("threadwright/tw-1", "a.txt", "changed\n"))
        world.forge.ready(world.repository, pull.number)
        world.forge.approve(world.repository, pull.number, pull.head, ANN)
        return world.forge.pull_request(world.repository, pull.number)

    def test_the_repository_is_found_by_its_name_and_an_unknown_one_is_told_the_known(self, world: ForgeWorld) -> None:
        assert world.forge.repositories() == [world.repository.name]
        assert world.forge.find(world.repository.name) == world.repository
        with pytest.raises(RepositoryProblem, match=world.repository.name):
            world.forge.find("none-of-that-name")

    def test_a_pull_request_is_opened_once_and_brought_up_to_date(self, world: ForgeWorld) -> None:
        head = world.commit("threadwright/tw-1", "a.txt", "changed\n")
        first = self.propose(world, head)
        assert (first.head, first.branch, first.base, first.state, first.draft) == (
            head, "threadwright/tw-1", "main", "open", True,
        )  # fmt: skip
        assert first.url
        again = self.propose(world, head, title="Fix it well")
        assert again == first.model_copy(update={"title": "Fix it well"})
        assert world.forge.pull_request(world.repository, first.number) == again

    def test_two_branches_are_two_pull_requests(self, world: ForgeWorld) -> None:
        one = self.propose(world, world.commit("threadwright/tw-1", "a.txt", "1\n"))
        two = self.propose(world, world.commit("threadwright/tw-2", "a.txt", "2\n"), "threadwright/tw-2")
        assert one.number != two.number

    def test_a_branch_that_is_missing_elsewhere_or_without_news_is_refused(self, world: ForgeWorld) -> None:
        with pytest.raises(RepositoryProblem):
            self.propose(world, "1" * 40, "threadwright/none")
        head = world.commit("threadwright/tw-1", "a.txt", "1\n")
        world.merge_by_hand("threadwright/tw-1")
        with pytest.raises(RepositoryProblem):
            self.propose(world, head)

    def test_an_unknown_number_is_refused(self, world: ForgeWorld) -> None:
        with pytest.raises(RepositoryProblem):
            world.forge.pull_request(world.repository, 99)

    def test_the_head_follows_the_branch(self, world: ForgeWorld) -> None:
        pull = self.propose(world, world.commit("threadwright/tw-1", "a.txt", "1\n"))
        head = world.commit("threadwright/tw-1", "a.txt", "2\n")
        assert world.forge.pull_request(world.repository, pull.number).head == head

    def test_a_comment_with_the_same_marker_is_made_once(self, world: ForgeWorld) -> None:
        pull = self.propose(world, world.commit("threadwright/tw-1", "a.txt", "1\n"))
        for marker in ("one", "one", "two"):
            world.forge.comment(world.repository, pull.number, f"About {marker}", marker=marker)
        assert [text.splitlines()[0] for text in world.said(pull.number)] == ["About one", "About two"]

    def test_ready_is_for_good(self, world: ForgeWorld) -> None:
        pull = self.propose(world, world.commit("threadwright/tw-1", "a.txt", "1\n"))
        for _ in range(2):
            assert world.forge.ready(world.repository, pull.number).draft is False
        assert self.propose(world, pull.head).draft is False

    def test_an_approved_pull_request_is_merged_once(self, world: ForgeWorld) -> None:
        pull = self.approved(world)
        merged = world.forge.merge(world.repository, pull.number, pull.head, "Fix it (#1)")
        assert merged.state == "merged"
        assert world.on_base(pull.head)
        assert world.on_base(merged.merge_commit)
        assert world.forge.merge(world.repository, pull.number, pull.head, "Fix it (#1)") == merged
        assert world.forge.pull_request(world.repository, pull.number) == merged
        assert self.propose(world, pull.head).number == pull.number

    def test_a_draft_is_not_merged(self, world: ForgeWorld) -> None:
        pull = self.propose(world, world.commit("threadwright/tw-1", "a.txt", "1\n"))
        world.forge.approve(world.repository, pull.number, pull.head, ANN)
        with pytest.raises(MergeRefused, match="draft"):
            world.forge.merge(world.repository, pull.number, pull.head, "Fix it")
        assert not world.on_base(pull.head)

    def test_what_nobody_approved_is_not_merged(self, world: ForgeWorld) -> None:
        pull = self.propose(world, world.commit("threadwright/tw-1", "a.txt", "1\n"))
        world.forge.ready(world.repository, pull.number)
        with pytest.raises(MergeRefused, match="not approved"):
            world.forge.merge(world.repository, pull.number, pull.head, "Fix it")

    def test_a_revoked_approval_is_none_and_another_persons_stays(self, world: ForgeWorld) -> None:
        pull = self.approved(world)
        for _ in range(2):
            world.forge.revoke(world.repository, pull.number, pull.head, ANN)
        with pytest.raises(MergeRefused, match="not approved"):
            world.forge.merge(world.repository, pull.number, pull.head, "Fix it")
        world.forge.approve(world.repository, pull.number, pull.head, BEN)
        world.forge.revoke(world.repository, pull.number, pull.head, ANN)
        assert world.forge.merge(world.repository, pull.number, pull.head, "Fix it").state == "merged"

    def test_only_the_head_can_be_approved(self, world: ForgeWorld) -> None:
        pull = self.propose(world, world.commit("threadwright/tw-1", "a.txt", "1\n"))
        with pytest.raises(MergeRefused):
            world.forge.approve(world.repository, pull.number, "1" * 40, ANN)

    def test_a_later_push_voids_the_approval(self, world: ForgeWorld) -> None:
        pull = self.approved(world)
        head = world.commit("threadwright/tw-1", "b.txt", "more\n")
        for sha in (pull.head, head):
            with pytest.raises(MergeRefused):
                world.forge.merge(world.repository, pull.number, sha, "Fix it")
        assert not world.on_base(pull.head)

    def test_a_conflict_is_refused_and_names_the_file(self, world: ForgeWorld) -> None:
        pull = self.approved(world)
        world.commit("main", "a.txt", "otherwise\n")
        with pytest.raises(MergeRefused, match=r"conflicts.*a\.txt"):
            world.forge.merge(world.repository, pull.number, pull.head, "Fix it")
        assert world.forge.pull_request(world.repository, pull.number).state == "open"

    def test_a_base_that_moved_elsewhere_is_merged(self, world: ForgeWorld) -> None:
        pull = self.approved(world)
        other = world.commit("main", "other.txt", "x\n")
        world.forge.merge(world.repository, pull.number, pull.head, "Fix it")
        assert world.on_base(other)
        assert world.on_base(pull.head)

    def test_a_merge_by_other_hands_is_seen(self, world: ForgeWorld) -> None:
        pull = self.propose(world, world.commit("threadwright/tw-1", "a.txt", "1\n"))
        made = world.merge_by_hand("threadwright/tw-1")
        world.commit("main", "later.txt", "x\n")
        seen = world.forge.pull_request(world.repository, pull.number)
        assert (seen.state, seen.merge_commit) == ("merged", made)

    def test_a_closed_one_is_not_merged_and_the_branch_gets_a_new_one(self, world: ForgeWorld) -> None:
        pull = self.approved(world)
        for _ in range(2):
            assert world.forge.close(world.repository, pull.number).state == "closed"
        with pytest.raises(MergeRefused, match="closed"):
            world.forge.merge(world.repository, pull.number, pull.head, "Fix it")
        assert self.propose(world, pull.head).number != pull.number

    def test_new_commits_after_a_merge_are_a_new_pull_request(self, world: ForgeWorld) -> None:
        pull = self.approved(world)
        merged = world.forge.merge(world.repository, pull.number, pull.head, "Fix it")
        later = self.propose(world, world.commit("threadwright/tw-1", "c.txt", "more\n"))
        assert later.number != pull.number
        assert later.state == "open"
        assert world.forge.pull_request(world.repository, pull.number) == merged
