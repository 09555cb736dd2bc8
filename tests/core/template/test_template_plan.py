"""When templates are due, and when their text may be written: on pretended time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from core.template import deps
from core.template.plan import Keeper, Plan, Safety, Wait
from core.template.records import HealthServices
from core.template.render import Rendered
from tests.core.template.template_brain import Answers, web

A, B = deps.KeyDep("a"), deps.KeyDep("b")
WEB = deps.ServiceDep("web")


def _done(*used: deps.Dependency, missing: tuple[deps.Dependency, ...] = (), text: str = "x") -> Rendered:
    return Rendered(text, used, missing)


def test_everything_is_due_at_first_and_nothing_after() -> None:
    plan = Plan([Wait(), Wait(5, 20)])
    assert plan.due(0) == [0, 1] and not plan.settled
    plan.rendered(0, _done(A))
    plan.rendered(1, _done(B))
    assert plan.settled and plan.next_at() is None
    assert plan.due(1e9) == []  # time alone renders nothing
    assert plan.wanted() == {A, B}


def test_a_change_is_for_those_that_use_it() -> None:
    plan = Plan([Wait(), Wait()])
    plan.rendered(0, _done(A))
    plan.rendered(1, _done(B))
    plan.answered(B, 7)
    assert plan.due(7) == [1]
    plan.answered(deps.KeyDep("c"), 7)
    assert plan.due(7) == [1]


def test_quiescence() -> None:
    plan = Plan([Wait(5, 12)])
    plan.rendered(0, _done(A))
    plan.answered(A, 100)
    assert plan.next_at() == 105
    plan.answered(A, 104)
    assert plan.next_at() == 109
    plan.answered(A, 108)
    assert plan.next_at() == 112  # at most 12 after the first change
    assert plan.due(111.9) == [] and plan.due(112) == [0]
    plan.rendered(0, _done(A))
    plan.answered(A, 200)
    assert plan.next_at() == 205  # the next change arms the timer anew


def test_missing_data_is_not_waited_with() -> None:
    plan = Plan([Wait(5, 20)])
    plan.rendered(0, _done(A, missing=(A,), text=""))
    assert plan.missing() == [(0, A)] and not plan.settled
    plan.answered(A, 3)
    assert plan.due(3) == [0]
    plan.rendered(0, _done(A))
    plan.answered(A, 4)
    plan.rendered(0, _done(A, B, missing=(B,), text=""))  # an answer led to a new question
    plan.answered(B, 10)
    assert plan.due(10) == [0]


def test_once_knows_no_timers() -> None:
    plan = Plan([Wait(5, 20)], once=True)
    plan.rendered(0, _done(A))
    plan.answered(A, 3)
    assert plan.due(3) == [0]


@given(
    st.lists(st.floats(0, 10), min_size=1, max_size=30),
    st.floats(0.1, 5),
    st.floats(1, 10),
)
def test_a_change_is_never_lost_nor_late(gaps: list[float], least: float, factor: float) -> None:
    plan = Plan([Wait(least, least * factor)])
    plan.rendered(0, _done(A))
    now, first = 0.0, None
    for gap in gaps:
        now += gap
        due = plan.next_at()
        if due is not None and due <= now:
            assert first is not None and due <= first + least * factor + 1e-6
            plan.rendered(0, _done(A))
            first = None
        plan.answered(A, now)
        first = now if first is None else first
        assert plan.next_at() is not None
        assert now <= plan.next_at() <= now + least + 1e-6  # type: ignore[operator]


def test_min_instances() -> None:
    keeper = Keeper(Safety(min_instances=2))
    brain = Answers({WEB: HealthServices([web(1)])})
    assert keeper.objection(_done(WEB), brain) == "service(web) has 1 instances, fewer than min_instances = 2"
    brain[WEB] = HealthServices([web(1), web(2)])
    assert keeper.objection(_done(WEB), brain) == ""


def test_lost_data_is_kept() -> None:
    keeper = Keeper(Safety(keep_when_empty=True))
    brain = Answers({WEB: HealthServices()})
    assert keeper.objection(_done(WEB), brain) == ""  # never had any
    brain[WEB] = HealthServices([web(1)])
    keeper.accept(_done(WEB), brain)
    brain[WEB] = HealthServices()
    assert keeper.objection(_done(WEB), brain) == "service(web) has become empty"
    assert keeper.objection(_done(text="\n"), brain) == "the text has become empty"
    assert Keeper(Safety()).objection(_done(WEB), brain) == ""
