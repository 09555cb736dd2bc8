"""The pure parts of the comparison: what is asked, what is left of an answer, what counts as different."""

from __future__ import annotations

import json

from tests.compare import chance, differ, normal, systematic
from tests.compare.normal import Answer, Frame
from tests.compare.steps import Scenario, Step, put

SESSION = "8f1a2b3c-0000-4000-8000-00000000abcd"
THEIRS = Frame("127.1.2.3", 100, {"s1": SESSION})
OURS = Frame("127.9.9.9", 40, {"s1": "11111111-0000-4000-8000-00000000abcd"})


def answer(body: str, status: int = 200, **headers: str) -> Answer:
    pairs = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Answer(status, pairs, body.encode())


def lines(scenarios: list[Scenario]) -> list[str]:
    return [chance.described(step) for scenario in scenarios for step in scenario.steps]


def test_a_seed_gives_the_same_scenarios_again_and_each_by_its_own_number() -> None:
    several = list(chance.scenarios(7, 5))
    assert lines(several) == lines(list(chance.scenarios(7, 5)))
    assert lines([several[3]]) == lines(list(chance.scenarios(10, 1)))
    assert lines(several) != lines(list(chance.scenarios(8, 5)))


def test_every_kind_of_step_comes_by_chance() -> None:
    asked = " ".join(f"{step.method} {step.target}" for one in chance.scenarios(1, 60) for step in one.steps)
    for part in ("PUT /v1/txn", "?recurse", "acquire=", "/v1/session/renew/", "PUT /v1/catalog/register"):
        assert part in asked
    for part in ("/v1/agent/check/update/", "service/maintenance/", "?filter=", "DELETE /v1/kv/"):
        assert part in asked


def test_the_systematic_scenarios_have_names_of_their_own_and_can_be_sent() -> None:
    names = set()
    for scenario in systematic.all_of():
        assert scenario.name not in names and scenario.steps
        names.add(scenario.name)
        for step in scenario.steps:
            packed = step.packed("127.0.0.1", {})
            assert b"\r\n\r\n" in packed or b"\n\n" in packed
            assert len(str(step)) < 5000
    assert len(names) > 400


def test_a_wrong_value_stands_in_every_field() -> None:
    bodies = [step.body for one in systematic.wrong_types() for step in one.steps]
    paths = {step.target for one in systematic.wrong_types() for step in one.steps}
    assert {"/v1/catalog/register", "/v1/txn", "/v1/session/create"} <= paths
    ports = [json.loads(body)["Service"]["Port"] for body in bodies if body.count(b'"Port": "text", "Tagged')]
    assert ports == ["text"]


def test_what_was_saved_is_filled_in_everywhere() -> None:
    step = put(
        "/v1/kv/a?acquire=${s1}", {"Session": "${s1}", "Other": "${gone}"}, headers=(("X-A", "${s1}"),)
    )
    packed = step.packed("h", {"s1": "abc"})
    assert packed.startswith(b"PUT /v1/kv/a?acquire=abc HTTP/1.1\r\nHost: h:8500\r\n")
    assert b"X-A: abc\r\n" in packed and packed.endswith(b'{"Session": "abc", "Other": "none"}')
    assert b"Content-Length: 35\r\n" in packed
    assert Step("", "", raw=b"RAW ${s1}").packed("h", {"s1": "x"}) == b"RAW x"


def test_what_is_an_agents_own_is_left_out() -> None:
    theirs = answer(
        f'[{{"ID":"{SESSION}","Address":"127.1.2.3","CreateIndex":107,"ModifyIndex":90,"LockIndex":3}}]',
        X_Consul_Index="107",
        Date="today",
    )
    ours = answer(
        '[{"ID":"11111111-0000-4000-8000-00000000abcd","Address":"127.9.9.9",'
        '"CreateIndex":47,"ModifyIndex":12,"LockIndex":3}]',
        X_Consul_Index="47",
        Date="tomorrow",
    )
    plain = normal.plain(theirs, THEIRS)
    assert plain == normal.plain(ours, OURS)
    assert plain.headers == (("x-consul-index", "+7"),)
    assert plain.body == (
        '[{"ID":"<s1>","Address":"<addr>","CreateIndex":"+7","ModifyIndex":"old","LockIndex":3}]'
    )
    assert [normal.relative(index, 40) for index in (0, 1, 40, 41)] == [0, 1, "old", "+1"]


def test_lists_by_random_ids_have_no_order_and_others_have() -> None:
    ids = [f"{number}0000000-0000-4000-8000-000000000000" for number in (1, 2)]
    one = answer(json.dumps([{"ID": ids[0], "Name": "b"}, {"ID": ids[1], "Name": "a"}]))
    two = answer(json.dumps([{"ID": ids[0], "Name": "a"}, {"ID": ids[1], "Name": "b"}]))
    assert normal.plain(one, OURS) == normal.plain(two, OURS)
    assert normal.plain(answer('["a","b"]'), OURS) != normal.plain(answer('["b","a"]'), OURS)


def differences(theirs: Answer, ours: Answer) -> list[differ.Difference]:
    return differ.differences(normal.plain(theirs, THEIRS), normal.plain(ours, OURS))


def test_what_counts_as_different() -> None:
    same = answer('{"a":1,"b":[{"c":2}]}', Vary="x")
    assert differences(same, same) == []
    [status] = differences(answer("no", 500), answer("no", 400))
    assert (status.kind, status.theirs, status.ours) == (differ.STATUS, "500 no", "400 no")
    [header] = differences(answer("", Allow="GET"), answer(""))
    assert (header.kind, header.where, header.theirs, header.ours) == (
        differ.HEADER,
        "allow",
        "GET",
        "(none)",
    )
    [body] = differences(same, answer('{"a":1,"b":[{"c":3}]}', Vary="x"))
    assert (body.kind, body.where, body.theirs, body.ours) == (differ.BODY, ".b[0].c", "2", "3")
    [order] = differences(answer('{"a":1,"b":2}'), answer('{"b":2,"a":1}'))
    assert (order.kind, order.where) == (differ.BODY, "order of keys")


def test_an_error_that_says_more_is_told_apart() -> None:
    [words] = differences(answer("Permission denied", 403), answer("Permission denied: because", 403))
    assert words.kind == differ.WORDS
    [other] = differences(answer("Permission denied", 403), answer("Refused", 403))
    assert other.kind == differ.BODY
