from __future__ import annotations

import pytest

from core.errors import Invalid
from core.raft.configuration import NONVOTER, VOTER, Configuration, Configurations, Server
from tests.core.raft.raft_fixture import servers

ABC = servers("abc")


def test_adding_and_promoting() -> None:
    more = ABC.with_nonvoter("d", "d:1")
    assert more == servers("abc", "d") and not more.votes("d")
    assert more.with_voter("d", "d:1") == servers("abcd")
    assert more.with_voter("d", "new:1").get("d") == Server("d", "new:1", VOTER)


def test_a_voter_stays_one_when_added_again_without_a_vote() -> None:
    assert ABC.with_nonvoter("a", "a:2").get("a") == Server("a", "a:2", VOTER)


def test_demoting_and_removing() -> None:
    assert ABC.demoted("b").get("b") == Server("b", "b:1", NONVOTER)
    assert ABC.without("b") == servers("ac")
    assert ABC.without("zz") == ABC
    with pytest.raises(Invalid, match='id "zz" was not found in the Raft configuration'):
        ABC.demoted("zz")


@pytest.mark.parametrize(
    "change, text",
    [
        (lambda: ABC.with_voter("", "x:1"), "empty ID"),
        (lambda: ABC.with_voter("d", ""), "empty address"),
        (lambda: ABC.with_voter("d", "a:1"), "duplicate address"),
        (lambda: servers("a", "b").without("a"), "at least one voter"),
        (lambda: servers("a").demoted("a"), "at least one voter"),
    ],
)
def test_broken_configurations_are_refused(change: object, text: str) -> None:
    with pytest.raises(Invalid, match=text):
        change()  # type: ignore[operator]


@pytest.mark.parametrize("voters, quorum", [("a", 1), ("ab", 2), ("abc", 2), ("abcd", 3), ("abcde", 3)])
def test_quorum(voters: str, quorum: int) -> None:
    assert servers(voters, "xyz").quorum == quorum


def test_as_text_it_is_gos() -> None:
    assert str(servers("a", "b")) == (
        "[{Suffrage:Voter ID:a Address:a:1} {Suffrage:Nonvoter ID:b Address:b:1}]"
    )
    assert servers("ab").by_address("b:1") == Server("b", "b:1")


def test_history() -> None:
    known = Configurations(servers("a"), 1)
    known.append(5, servers("ab"))
    known.append(9, servers("abc"))
    assert (known.latest, known.latest_index, known.is_stable) == (servers("abc"), 9, False)
    assert known.committed == servers("a")
    known.commit(7)
    assert (known.committed, known.committed_index) == (servers("ab"), 5)
    assert known.at(8) == (5, servers("ab"))
    known.truncate(6)
    assert (known.latest, known.is_stable) == (servers("ab"), True)
    known.compact(5)
    assert known.at(5) == (5, servers("ab"))
    known.truncate(1)
    assert known.latest == servers("ab")


def test_an_empty_configuration_knows_nobody() -> None:
    assert Configuration().voters == [] and not Configuration().is_sole("a")
