"""From a token to its judge: links, roles, identities, scopes; hashes as Consul makes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from core.acl import identities
from core.acl.builtin import anonymous_token, management_policy, management_token
from core.acl.expiry import expired
from core.acl.hashes import hashed_policy, hashed_role, hashed_token
from core.acl.policy import parse
from core.acl.resolve import Judges, expiry, policies_of
from core.acl.settings import AclSettings
from core.codec import wire
from core.codec.msgpack import ZERO_TIME, encode_time
from core.errors import Invalid
from core.store.acl_structs import (
    ACLLink,
    ACLNodeIdentity,
    ACLPolicy,
    ACLPolicyBatchSetRequest,
    ACLRole,
    ACLRoleBatchSetRequest,
    ACLServiceIdentity,
    ACLTemplatedPolicy,
    ACLTemplateVariables,
    ACLToken,
    ACLTokenBatchSetRequest,
    ACLTokenBootstrapRequest,
)
from core.store.state import Store

DENY = AclSettings(enabled=True, default_policy="deny")
LOG = Path(__file__).parents[2] / "vectors" / "fsm" / "log_sequence.json"


class Rows:
    """Roles and policies by id."""

    def __init__(self, *rows: ACLRole | ACLPolicy) -> None:
        self.rows = {row.id: row for row in rows}

    def role(self, role_id: str) -> ACLRole | None:
        row = self.rows.get(role_id)
        return row if isinstance(row, ACLRole) else None

    def policy(self, policy_id: str) -> ACLPolicy | None:
        row = self.rows.get(policy_id)
        return row if isinstance(row, ACLPolicy) else None


def policy(name: str, rules: str = "", *datacenters: str) -> ACLPolicy:
    return ACLPolicy(id=name, name=name, rules=rules, datacenters=list(datacenters) or None)


def links(*ids: str) -> list[ACLLink]:
    return [ACLLink(one) for one in ids]


def names(token: ACLToken, *rows: ACLRole | ACLPolicy, datacenter: str = "dc1") -> list[str]:
    return [found.name for found in policies_of(token, Rows(*rows), datacenter)]


def test_policies_come_from_the_token_and_its_roles_each_once() -> None:
    role = ACLRole(id="r", name="r", policies=links("a", "c", "gone"))
    token = ACLToken(policies=links("a", "b"), roles=links("r", "gone"))
    assert names(token, role, policy("a"), policy("b"), policy("c")) == ["a", "b", "c"]


def test_policies_hold_in_their_datacenters() -> None:
    token = ACLToken(policies=links("here", "there", "everywhere"))
    rows = (policy("here", "", "dc1", "dc9"), policy("there", "", "dc2"), policy("everywhere"))
    assert names(token, *rows) == ["here", "everywhere"]
    assert names(token, *rows, datacenter="dc2") == ["there", "everywhere"]


def test_identities_hold_in_their_datacenters() -> None:
    token = ACLToken(
        service_identities=[ACLServiceIdentity("web", ["dc2"]), ACLServiceIdentity("db")],
        node_identities=[ACLNodeIdentity("n1", "dc1"), ACLNodeIdentity("n2", "dc2")],
    )
    judge = Judges(DENY, "me").of(token, Rows())
    assert [name for name in ("web", "db", "db-sidecar-proxy") if judge.allows("service", name, "write")] == [
        "db",
        "db-sidecar-proxy",
    ]
    assert judge.allows("service", "any", "read") and judge.allows("node", "any", "read")
    assert [name for name in ("n1", "n2") if judge.allows("node", name, "write")] == ["n1"]
    assert not judge.allows("key", "a", "read")


def test_roles_have_identities_too() -> None:
    role = ACLRole(id="r", service_identities=[ACLServiceIdentity("web")])
    assert Judges(DENY, "me").of(ACLToken(roles=links("r")), Rows(role)).allows("service", "web", "write")


def test_synthetic_policies_are_named_after_their_rules() -> None:
    made = identities.service_policy(ACLServiceIdentity("web", ["dc1"]))
    assert made.name == f"synthetic-policy-{made.id}" and len(made.id) == 32
    assert made.datacenters == ["dc1"]
    assert made.id == identities.service_policy(ACLServiceIdentity("web")).id
    assert made.id != identities.service_policy(ACLServiceIdentity("db")).id


def test_the_digest_of_rules_is_fnv_1a() -> None:
    # the algorithm's published test values
    assert identities._fnv128a("") == "6c62272e07bb014262b821756295c58d"
    assert identities._fnv128a("a") == "d228cb696f1a8caf78912b704e4a8964"


@pytest.mark.parametrize("name", identities.TEMPLATES)
def test_templates_give_rules(name: str) -> None:
    template = identities.TEMPLATES[name]
    variables = ACLTemplateVariables('we"b') if template.needs_name else None
    made = identities.templated_policy(ACLTemplatedPolicy(template.id, name, variables))
    assert parse(made.rules).rules and not parse(made.rules).ignored
    wrong = None if template.needs_name else ACLTemplateVariables("web")
    with pytest.raises(Invalid):
        identities.templated_policy(ACLTemplatedPolicy(template.id, name, wrong))


def test_templates_of_a_newer_version_are_passed_over() -> None:
    token = ACLToken(
        templated_policies=[ACLTemplatedPolicy("x", "builtin/new"), ACLTemplatedPolicy("5", "builtin/dns")]
    )
    assert Judges(DENY, "me").of(token, Rows()).allows("query", "q", "read")
    with pytest.raises(Invalid, match="builtin/new"):
        identities.templated_policy(ACLTemplatedPolicy("x", "builtin/new"))


def test_tokens_of_the_old_system() -> None:
    judges = Judges(DENY, "me")
    client = judges.of(ACLToken(type="client", rules='key "a" { policy = "write" }'), Rows())
    assert client.allows("key", "a/b", "write") and not client.allows("key", "b", "read")
    management = judges.of(ACLToken(type="management"), Rows())
    assert management.allows("acl", "", "write") and management.allows_below("key", "", "write")


def test_the_same_policies_are_merged_once() -> None:
    judges = Judges(DENY, "me")
    rows = Rows(policy("a", 'key "a" { policy = "read" }'), policy("b", 'key "b" { policy = "read" }'))
    one = judges.of(ACLToken(accessor_id="1", policies=links("a", "b")), rows)
    two = judges.of(ACLToken(accessor_id="2", policies=links("b", "a")), rows)
    assert one._names is two._names
    assert (one.accessor, two.accessor) == ("1", "2")


def test_a_policy_that_cannot_be_read_closes_what_is_open_by_default() -> None:
    judges = Judges(AclSettings(enabled=True, default_policy="allow"), "me")
    broken = judges.of(
        ACLToken(policies=links("a", "b")),
        Rows(policy("a", "key {"), policy("b", 'key "b" { policy = "read" }')),
    )
    assert broken.allows("key", "b", "read")
    assert not broken.allows("key", "c", "read")


def test_the_recovery_token_is_for_this_agent() -> None:
    judges = Judges(DENY, "me")
    judge = judges.recovery("secret", "secret")
    assert judge is not None and judge.accessor == "agent-recovery:me"
    assert judge.allows("agent", "me", "write") and judge.allows("node", "any", "read")
    assert not judge.allows("agent", "other", "read") and not judge.allows("key", "a", "read")
    assert judges.recovery("x", "secret") is judges.recovery("", "") is None


@pytest.mark.parametrize(
    ("down", "allowed"), [("allow", True), ("deny", False), ("extend-cache", False), ("async-cache", False)]
)
def test_what_holds_when_no_server_answers(down: Any, allowed: bool) -> None:
    judge = Judges(replace(DENY, down_policy=down), "me").when_down()
    assert judge.allows("key", "a", "write") is allowed
    assert not judge.allows("acl", "", "read")


def test_when_a_token_ends() -> None:
    assert expiry(ACLToken()) == expiry(ACLToken(expiration_time=ZERO_TIME)) == 0
    assert expiry(ACLToken(expiration_time=encode_time(100, 500_000_000))) == 100.5


def test_tokens_that_have_ended_are_found() -> None:
    store = Store()
    for number, ends in enumerate(
        (None, ZERO_TIME, encode_time(100), encode_time(100, 5), encode_time(160, 0, 60))
    ):
        store.acl_tokens.put(f"s{number}", ACLToken(f"a{number}", f"s{number}", expiration_time=ends))
    assert expired(store, 99.5, 30.0) == ([], 0.5)
    ended, pause = expired(store, 100.0, 30.0)
    assert ended == ["a2"] and pause == pytest.approx(0.1)
    assert expired(store, 101.0, 30.0) == (["a2", "a3"], 30.0)
    assert expired(store, 200.0, 30.0) == (["a2", "a3", "a4"], 30.0)


def recorded() -> list[tuple[str, Any]]:
    kinds: dict[int, tuple[Any, Any]] = {
        11: (ACLTokenBootstrapRequest, lambda request: [request.token]),
        17: (ACLTokenBatchSetRequest, lambda request: request.tokens),
        19: (ACLPolicyBatchSetRequest, lambda request: request.policies),
        23: (ACLRoleBatchSetRequest, lambda request: request.roles),
    }
    found = []
    for entry in json.loads(LOG.read_text())["vectors"]:
        kind = kinds.get(entry.get("command"))
        if kind is not None:
            request = wire.unpack(kind[0], bytes.fromhex(entry["data_hex"])[1:])
            found += [(entry["cause"], row) for row in kind[1](request)]
    return found


def test_hashes_are_those_that_were_recorded() -> None:
    hashed: dict[Any, Any] = {ACLToken: hashed_token, ACLPolicy: hashed_policy, ACLRole: hashed_role}
    rows = recorded()
    assert len(rows) >= 8
    for _, row in rows:
        assert hashed[type(row)](replace(row, hash=None)) == row


def test_built_in_objects_are_those_that_were_recorded() -> None:
    by_leader = [row for cause, row in recorded() if cause == "leader"]
    assert by_leader == [management_policy(), anonymous_token(by_leader[1].create_time)]
    (first,) = [row for cause, row in recorded() if cause == "PUT /v1/acl/bootstrap"]
    made = management_token(first.accessor_id, first.secret_id, first.description, first.create_time)
    assert made == first
