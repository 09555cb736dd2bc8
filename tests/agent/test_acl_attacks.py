"""What a token might try to learn, or change, by ways that were not made for it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from core.api import catalog, health, remote_internal
from core.api.endpoint import QueryOptions, Question, Read
from core.api.remote_reads import NODE_SERVICE_LIST
from core.errors import Invalid
from core.store import commands
from core.store.apply import apply
from core.store.structs import HealthCheck, NodeService, RegisterRequest
from tests.agent.test_permitted import Known, judge, leading, no_reply

NODES = 'node_prefix "" { policy = "read" }'
SECRET = "hunter2"


def _hidden_service(calls: Any) -> None:
    register = RegisterRequest(
        datacenter="dc1",
        node="n1",
        address="10.0.0.1",
        service=NodeService(id="vault", service="vault", meta={"password": SECRET}),
        checks=[HealthCheck(node="n1", check_id="up", service_id="vault", output=SECRET)],
    )
    assert not isinstance(apply(calls.store, 1, commands.register(register)), Exception)


FILTERED: list[tuple[Read, Any, str]] = [
    (catalog.SERVICE_NODES, catalog.ServiceRequest("vault"), "ServiceMeta.password"),
    (catalog.NODE_SERVICES, catalog.NameRequest("n1"), "Meta.password"),
    (NODE_SERVICE_LIST, catalog.NameRequest("n1"), "Meta.password"),
    (health.SERVICE_NODES, catalog.ServiceRequest("vault"), "Service.Meta.password"),
    (health.NODE_CHECKS, catalog.NameRequest("n1"), "Output"),
    (health.SERVICE_CHECKS, health.ChecksRequest(service="vault"), "Output"),
    (health.CHECKS_IN_STATE, health.ChecksRequest(state="any"), "Output"),
    (remote_internal.SERVICE_DUMP, remote_internal.DumpRequest(), "Service.Meta.password"),
]


@pytest.mark.parametrize(("read", "args", "field"), FILTERED, ids=lambda one: getattr(one, "rpc", None))
def test_a_filter_does_not_tell_of_what_is_hidden(read: Read, args: Any, field: str) -> None:
    """The answer to a guess at a hidden field is the same whether the guess is right or not."""

    async def scene() -> None:
        calls = leading(Known(reader=judge(NODES)))
        _hidden_service(calls)
        answers = []
        for guess in ("hunter", "zzz"):
            asked = type(args)(
                **{name: getattr(args, name) for name in args.__struct_fields__}
                | {"filter": f'{field} matches "{guess}"'}
            )
            answers.append(calls.ask(Question(read, asked, QueryOptions(token="reader"), no_reply)))
        assert answers[0] == answers[1]
        assert answers[0].filtered

    asyncio.run(scene())


def test_a_filter_still_picks_and_a_wrong_one_is_refused() -> None:
    async def scene() -> None:
        calls = leading(Known(all=judge(NODES + ' service_prefix "" { policy = "read" }')))
        _hidden_service(calls)

        def found(expression: str) -> int:
            args = health.ChecksRequest(state="any", filter=expression)
            return len(
                calls.ask(Question(health.CHECKS_IN_STATE, args, QueryOptions(token="all"), no_reply)).value
            )

        assert (found(f'Output == "{SECRET}"'), found('Output == "x"')) == (1, 0)
        with pytest.raises(Invalid):
            found("Output ==")

    asyncio.run(scene())
