"""Which rows a copy lacks, has too many of, or has in an old form."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from core.node.replication import Known, difference, in_the_way

KEYS = st.sampled_from("abcdefgh")
ROWS = st.dictionaries(KEYS, st.tuples(st.integers(1, 20), st.binary(min_size=1, max_size=1)))


def known(rows: dict[str, tuple[int, bytes]]) -> list[Known]:
    return [Known(key, index, hash) for key, (index, hash) in rows.items()]


@given(ROWS, ROWS)
def test_taking_over_the_difference_makes_both_the_same(
    here: dict[str, tuple[int, bytes]], there: dict[str, tuple[int, bytes]]
) -> None:
    found = difference(known(here), known(there), 0)
    for key in found.delete:
        del here[key]
    for key in found.fetch:
        assert here.get(key, (0, b""))[1] != there[key][1], "what is the same is not fetched"
        here[key] = there[key]
    assert {key: row[1] for key, row in here.items()} == {key: row[1] for key, row in there.items()}


@given(ROWS, ROWS, st.integers(0, 20))
def test_only_what_changed_since_is_looked_at(
    here: dict[str, tuple[int, bytes]], there: dict[str, tuple[int, bytes]], since: int
) -> None:
    found = difference(known(here), known(there), since)
    for key in set(here) & set(there):
        changed = there[key][0] > since and there[key][1] != here[key][1]
        assert (key in found.fetch) == changed
    assert set(there) - set(here) <= set(found.fetch)


def test_rows_without_a_hash_are_fetched_when_their_index_is_new() -> None:
    here, there = [Known("a", 3)], [Known("a", 7)]
    assert difference(here, there, 6).fetch == ["a"]
    assert difference(here, there, 7).fetch == []


def test_a_name_that_moves_makes_way() -> None:
    here = [Known("1", name="one"), Known("2", name="Two"), Known("3", name="three"), Known("4")]
    incoming = [Known("1", name="two"), Known("2", name="one"), Known("5", name="five"), Known("6")]
    assert in_the_way(here, incoming) == ["1", "2"]
    assert in_the_way(here, [Known("3", name="THREE")]) == []
