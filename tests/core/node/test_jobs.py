"""Runs of actions: given out once, bounded, forgotten in time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import TooManyRequests
from core.node.jobs import ENDED, FORGOTTEN_AFTER, MOST, OUTPUT, OUTPUTS, Jobs, Order, Part


def made(*nodes: str, identity: str = "a") -> Jobs:
    jobs = Jobs()
    jobs.create(Order(identity, "deploy"), list(nodes), 0.0)
    return jobs


def test_a_part_is_given_out_once() -> None:
    jobs = made("n1", "n2")
    order = jobs.take("a", "n1", 1.0)
    assert order is not None and order.action == "deploy"
    assert jobs.take("a", "n1", 1.0) is None
    assert jobs.take("a", "n3", 1.0) is None
    assert jobs.take("b", "n2", 1.0) is None
    assert [part.state for part in jobs.parts("a", 2.0)] == ["running", "waiting"]
    assert [part.silent for part in jobs.parts("a", 2.0)] == [1.0, 2.0]


def test_reports() -> None:
    jobs = made("n1", "n2")
    assert not jobs.report("b", Part("n1", "passed"), 0.0)
    assert not jobs.report("a", Part("n3", "passed"), 0.0)
    assert jobs.report("a", Part("n2", "passed"), 0.0)  # known, but it was never begun there
    jobs.take("a", "n1", 0.0)
    jobs.report("a", Part("n1", "running"), 5.0)
    assert jobs.parts("a", 6.0)[0].silent == 1.0
    jobs.report("a", Part("n1", "failed", 3), 7.0)
    jobs.report("a", Part("n1", "passed"), 8.0)  # it has ended already
    assert [(part.state, part.code) for part in jobs.parts("a", 9.0)] == [("failed", 3), ("waiting", 0)]


@pytest.mark.parametrize("count", [1, 1000])
def test_output_is_bounded(count: int) -> None:
    jobs = made(*(f"n{number}" for number in range(count)))
    for number in range(count):
        jobs.take("a", f"n{number}", 0.0)
        jobs.report("a", Part(f"n{number}", "passed", output="x" * 2 * OUTPUT + "end"), 0.0)
    outputs = [part.output for part in jobs.parts("a", 0.0)]
    assert all(output.endswith("end") and len(output) <= OUTPUT for output in outputs)
    assert sum(map(len, outputs)) <= OUTPUTS


def test_so_many_at_a_time() -> None:
    jobs = Jobs()
    for number in range(MOST):
        jobs.create(Order(str(number), "deploy"), ["n1"], 0.0)
    with pytest.raises(TooManyRequests):
        jobs.create(Order("more", "deploy"), ["n1"], 1.0)
    jobs.take("3", "n1", 1.0)
    jobs.report("3", Part("n1", "passed"), 1.0)
    jobs.create(Order("more", "deploy"), ["n1"], 1.0)  # in the place of one that has ended
    assert jobs.parts("3", 1.0) == [] and len(jobs.parts("4", 50.0)) == 1
    jobs.create(Order("later", "deploy"), ["n1"], FORGOTTEN_AFTER + 1.0)
    assert jobs.parts("5", 99.0) == []  # nobody asked for it
    assert len(jobs.parts("4", 99.0)) == 1
    jobs.clear()
    assert jobs.parts("4", 99.0) == [] == jobs.nodes("4")


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["take", "report"]),
        st.sampled_from(["n1", "n2", "n3"]),
        st.sampled_from([*sorted(ENDED), "running", "waiting", "odd"]),
    ),
    max_size=20,
)


@given(STEPS)
def test_whatever_is_reported_an_end_stands_and_nothing_is_given_out_twice(
    steps: list[tuple[str, str, str]],
) -> None:
    jobs = made("n1", "n2")
    taken: set[str] = set()
    ends: dict[str, str] = {}
    for what, node, state in steps:
        if what == "take":
            order = jobs.take("a", node, 0.0)
            assert (order is not None) == (node in ("n1", "n2") and node not in taken)
            if order is not None:
                taken.add(node)
        else:
            jobs.report("a", Part(node, state), 0.0)
            if node in taken and state in ENDED:
                ends.setdefault(node, state)
        for part in jobs.parts("a", 0.0):
            assert part.state == ends.get(part.node, "running" if part.node in taken else "waiting")
