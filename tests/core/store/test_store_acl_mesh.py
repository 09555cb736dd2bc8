"""ACL objects, config entries, intentions and the CA: the rules beyond what the recorded log shows."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from core.codec import msgpack
from core.errors import Invalid
from core.store import acl_structs as acls
from core.store import commands, mesh
from core.store.acl import ANONYMOUS, GLOBAL_MANAGEMENT
from core.store.acl_structs import ACLLink, ACLPolicy, ACLRole, ACLToken
from core.store.watch import Watch
from tests.core.store.maker import Bench


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    policies = [ACLPolicy(GLOBAL_MANAGEMENT, "global-management", rules="all"), ACLPolicy("p1", "first")]
    bench.ok(commands.command(commands.ACL_POLICY_SET, acls.ACLPolicyBatchSetRequest(policies)))
    return bench


def do(bench: Bench, kind: int, request: msgspec.Struct) -> Any:
    return bench.apply(commands.command(kind, request))


def set_tokens(bench: Bench, *tokens: ACLToken, **how: bool) -> Any:
    return do(bench, commands.ACL_TOKEN_SET, acls.ACLTokenBatchSetRequest(list(tokens), **how))


def refused(result: object) -> str:
    assert isinstance(result, Invalid)
    return str(result)


def test_tokens_are_found_by_secret_and_accessor(bench: Bench) -> None:
    assert set_tokens(bench, ACLToken("A1", "s1", policies=[ACLLink("P1", "")])) is None
    token = bench.store.token_by_secret("s1")
    assert token is not None
    assert token.policies == [ACLLink("P1", "first")]
    assert bench.store.token_by_accessor("a1") is token
    assert bench.store.acl_get("acl-tokens", "A1") == (bench.index, token)
    assert bench.store.acl_list("acl-tokens") == (bench.index, [token])
    assert bench.store.acl_named("acl-policies", "FIRST")[1].id == "p1"
    assert bench.store.acl_get("acl-policies", "none")[1] is None


def test_tokens_keep_their_ids_and_links(bench: Bench) -> None:
    set_tokens(bench, ACLToken("a1", "s1"))
    created = bench.index
    for token, problem in (
        (ACLToken("a1", "other"), "The ACL Token SecretID field is immutable"),
        (ACLToken("", "s2"), "Missing ACL Token AccessorID"),
        (ACLToken("a2", ""), "Missing ACL Token SecretID"),
        (ACLToken("a2", "s2", policies=[ACLLink("no")]), "No such policy with ID: no"),
        (ACLToken("a2", "s2", roles=[ACLLink("no")]), "No such role with ID: no"),
        (ACLToken("a2", "s2", policies=[ACLLink("", "first")]), "Encountered a Token with policies linked"),
        (ACLToken("a2", "s2", auth_method="no"), "No such auth method with Name: no"),
    ):
        assert refused(set_tokens(bench, ACLToken("a3", "s3"), token)).startswith(problem)
        assert bench.store.token_by_secret("s3") is None  # the whole batch or nothing
    assert refused(set_tokens(bench, ACLToken("a2", "s2"), prohibit_unprivileged=True))
    assert set_tokens(bench, ACLToken("a2", "s2", policies=[ACLLink("no")]), allow_missing_links=True) is None
    set_tokens(bench, ACLToken("a1", "s1", description="new"))
    token = bench.store.token_by_secret("s1")
    assert token is not None
    assert (token.create_index, token.modify_index) == (created, bench.index)


def test_a_stale_token_is_left_out_without_a_word(bench: Bench) -> None:
    set_tokens(bench, ACLToken("a1", "s1"))
    current = bench.index
    stale = [
        ACLToken("a1", "s1", "x"),
        ACLToken("a1", "s1", "x", modify_index=1),
        ACLToken("a2", "s2", modify_index=1),
    ]
    assert set_tokens(bench, *stale, cas=True) is None
    assert bench.store.indexes["acl-tokens"] == current
    set_tokens(bench, ACLToken("a1", "s1", "new", modify_index=current), ACLToken("a2", "s2"), cas=True)
    assert [token.description for token in bench.store.acl_tokens.values()] == ["new", ""]


def test_built_in_objects_stay(bench: Bench) -> None:
    set_tokens(bench, ACLToken(ANONYMOUS, "anonymous"))
    delete = acls.ACLTokenBatchDeleteRequest([ANONYMOUS])
    assert "anonymous token" in refused(do(bench, commands.ACL_TOKEN_DELETE, delete))
    for change in (
        ACLPolicy(GLOBAL_MANAGEMENT, "global-management", rules="less"),
        ACLPolicy(GLOBAL_MANAGEMENT, "global-management", rules="all", datacenters=["dc2"]),
    ):
        request = acls.ACLPolicyBatchSetRequest([change])
        assert "is not permitted" in refused(do(bench, commands.ACL_POLICY_SET, request))
    delete_policy = acls.ACLPolicyBatchDeleteRequest([GLOBAL_MANAGEMENT])
    assert "is not permitted" in refused(do(bench, commands.ACL_POLICY_DELETE, delete_policy))


def test_names_of_policies_and_roles_are_unique(bench: Bench) -> None:
    twin = acls.ACLPolicyBatchSetRequest([ACLPolicy("p2", "FIRST")])
    assert refused(do(bench, commands.ACL_POLICY_SET, twin)) == 'A policy with name "FIRST" already exists'
    roles = acls.ACLRoleBatchSetRequest([ACLRole("r1", "role", policies=[ACLLink("p1")])])
    assert do(bench, commands.ACL_ROLE_SET, roles) is None
    assert bench.store.acl_get("acl-roles", "R1")[1].policies == [ACLLink("p1", "first")]
    twin_role = acls.ACLRoleBatchSetRequest([ACLRole("r2", "Role")])
    assert refused(do(bench, commands.ACL_ROLE_SET, twin_role)) == 'A role with name "Role" already exists'
    for request, problem in (
        (acls.ACLPolicyBatchSetRequest([ACLPolicy("", "x")]), "Missing ACL Policy ID"),
        (acls.ACLPolicyBatchSetRequest([ACLPolicy("x", "")]), "Missing ACL Policy Name"),
    ):
        assert refused(do(bench, commands.ACL_POLICY_SET, request)) == problem


def test_deleted_policies_leave_their_links(bench: Bench) -> None:
    set_tokens(bench, ACLToken("a1", "s1", policies=[ACLLink("p1")]))
    before = bench.store.indexes["acl-tokens"]
    delete = acls.ACLPolicyBatchDeleteRequest(["p1", "none"])
    assert do(bench, commands.ACL_POLICY_DELETE, delete) is None
    assert bench.store.token_by_secret("s1").policies == [ACLLink("p1", "first")]  # type: ignore[union-attr]
    assert bench.store.indexes["acl-tokens"] == before
    assert bench.moved(commands.command(commands.ACL_POLICY_DELETE, delete)) == (None, set())


def test_an_auth_method_takes_its_rules_and_tokens_with_it(bench: Bench) -> None:
    rule = acls.ACLBindingRuleBatchSetRequest([acls.ACLBindingRule("b1", auth_method="JWT")])
    assert "auth method not found" in refused(do(bench, commands.ACL_BINDING_RULE_SET, rule))
    method = acls.ACLAuthMethodBatchSetRequest([acls.ACLAuthMethod("jwt", "jwt")])
    assert do(bench, commands.ACL_AUTH_METHOD_SET, method) is None
    assert do(bench, commands.ACL_BINDING_RULE_SET, rule) is None
    set_tokens(bench, ACLToken("a1", "s1", auth_method="Jwt"), ACLToken("a2", "s2"))
    delete = commands.command(
        commands.ACL_AUTH_METHOD_DELETE, acls.ACLAuthMethodBatchDeleteRequest(["JWT", "none"])
    )
    moved = {"acl-auth-methods", "acl-binding-rules", "acl-tokens"}
    assert bench.moved(delete) == (None, moved)
    assert [token.accessor_id for token in bench.store.acl_tokens.values()] == ["a2"]
    assert bench.moved(delete) == (None, set())


def test_bootstrap_is_once_but_for_the_reset_index(bench: Bench) -> None:
    def bootstrap(reset: int) -> Any:
        token = ACLToken(f"a{bench.index}", f"s{bench.index}")
        return do(bench, commands.ACL_BOOTSTRAP, acls.ACLTokenBootstrapRequest(token, reset))

    assert bench.store.bootstrap_allowed()
    assert bootstrap(0) is None
    first = bench.index
    assert not bench.store.bootstrap_allowed()
    assert refused(bootstrap(0)) == "ACL bootstrap no longer allowed"
    assert refused(bootstrap(first + 1)) == "Invalid ACL bootstrap reset index"
    assert bootstrap(first) is None
    assert bench.store.indexes["acl-token-bootstrap"] == bench.index


def test_tokens_of_the_old_system(bench: Bench) -> None:
    def old(op: str, name: str = "") -> Any:
        acl = acls.LegacyACL("secret", name, "client", 'key "" { policy = "read" }')
        return do(bench, commands.ACL, acls.LegacyACLRequest("dc1", op, acl))

    assert old("bootstrap-init") is True
    assert old("set", "one") == "secret"
    assert old("force-set", "two") == "secret"
    token = bench.store.token_by_secret("secret")
    assert token is not None
    assert (token.description, token.accessor_id) == ("two", "")
    assert old("delete") is None
    assert bench.store.token_by_secret("secret") is None
    assert isinstance(old("bootstrap-now"), acls.LegacyACL)
    assert old("bootstrap-init") is False


def test_acl_reads_are_watched(bench: Bench) -> None:
    watch = Watch()
    bench.store.acl_list("acl-tokens", watch)
    bench.put(b"k")
    assert not watch.fired
    set_tokens(bench, ACLToken("a1", "s1"))
    assert watch.fired


# The mesh


def entry(bench: Bench, op: str, kind: str, **fields: Any) -> Any:
    body = {"Kind": kind, "Name": "web", "CreateIndex": 0, "ModifyIndex": 0, **fields}
    wrapped = msgpack.encode(mesh.write_entry_request(kind, body, op, "dc1"))
    return bench.apply(bytes([commands.CONFIG_ENTRY]) + wrapped)


def test_config_entries_compare_and_set(bench: Bench) -> None:
    assert entry(bench, "upsert-cas", "service-defaults", Protocol="http") is True
    created = bench.index
    assert entry(bench, "upsert-cas", "service-defaults", Protocol="tcp") is False
    assert entry(bench, "upsert-cas", "service-defaults", Protocol="tcp", ModifyIndex=created) is True
    index, row = bench.store.config_entry("service-defaults", "WEB")
    assert row is not None
    assert (index, row["CreateIndex"], row["ModifyIndex"]) == (bench.index, created, bench.index)
    assert entry(bench, "upsert", "proxy-defaults", Config={"a": 1.5}) is True
    assert len(bench.store.config_entry_list()[1]) == 2
    assert [row["Config"] for row in bench.store.config_entry_list("proxy-defaults")[1]] == [{"a": 1.5}]
    assert entry(bench, "delete", "service-defaults") is None
    deleted = bench.index
    assert entry(bench, "delete", "service-defaults") is None
    assert bench.store.config_entry("service-defaults", "web") == (deleted, None)
    assert refused(entry(bench, "patch", "service-defaults")).startswith("invalid config entry operation")


def intention(bench: Bench, op: str, source: str, action: str = "", **fields: Any) -> Any:
    value = None
    if action:
        value = {"Name": source, "Action": action, "LegacyCreateTime": msgpack.ZERO_TIME, **fields}
    mutation = {"Destination": {"Name": "api"}, "Source": {"Name": source}, "ID": "", "Value": value}
    mutation["ID"] = fields.get("ID", "")
    request = {"Datacenter": "dc1", "Op": op, "Mutation": mutation}
    return bench.apply(bytes([commands.INTENTION]) + msgpack.encode(request))


def sources(bench: Bench) -> list[tuple[str, str, int]]:
    row = bench.store.config_entry("service-intentions", "api")[1]
    return [(one["Name"], one["Action"], one["Precedence"]) for one in row["Sources"]] if row else []


def test_intentions_live_in_the_entry_of_their_destination(bench: Bench) -> None:
    intention(bench, "upsert", "*", "deny")
    created = bench.index
    intention(bench, "upsert", "web", "deny")
    intention(bench, "upsert", "web", "allow")
    assert sources(bench) == [("web", "allow", 9), ("*", "deny", 8)]
    row = bench.store.config_entry("service-intentions", "api")[1]
    assert row is not None
    assert (row["CreateIndex"], row["Sources"][0]["Type"]) == (created, "consul")
    assert row["Sources"][0]["LegacyCreateTime"] is None
    intention(bench, "delete", "nosuch")
    assert bench.store.indexes["config-entries"] == bench.index - 1
    intention(bench, "delete", "web")
    intention(bench, "delete", "*")
    assert bench.store.config_entry("service-intentions", "api") == (bench.index, None)


def test_intentions_by_their_old_id(bench: Bench) -> None:
    intention(bench, "create", "web", "deny", LegacyID="i1")
    intention(bench, "update", "web", "allow", LegacyID="i1", ID="i1")
    assert sources(bench) == [("web", "allow", 9)]
    row = bench.store.config_entry("service-intentions", "api")[1]
    assert row is not None and row["Sources"][0]["LegacyMeta"] == {}  # as Consul 1.9.8 stores it, not nil
    assert "non-existent intention" in refused(intention(bench, "update", "web", "allow", ID="i2"))
    intention(bench, "delete", "", ID="i1")
    assert sources(bench) == []


def old_intention(bench: Bench, op: str, **fields: Any) -> set[str]:
    request = {"Op": op, "Intention": {"ID": "i", **fields}}
    result, moved = bench.moved(bytes([commands.INTENTION]) + msgpack.encode(request))
    assert result is None
    return moved


def test_the_old_intentions_are_cleared_once(bench: Bench) -> None:
    assert old_intention(bench, "create", Action="allow") == {"connect-intentions"}
    assert old_intention(bench, "update", Action="deny") == {"connect-intentions"}
    assert old_intention(bench, "delete", ID="none") == set()
    assert len(bench.store.legacy_intentions) == 1
    bench.apply(bytes([commands.INTENTION]) + msgpack.encode({"Op": "delete-all"}))
    assert len(bench.store.legacy_intentions) == 0
    assert bench.store.metadata("intention-format") == "config-entry"


def ca(bench: Bench, op: str, **fields: Any) -> Any:
    return bench.apply(bytes([commands.CONNECT_CA]) + msgpack.encode({"Op": op, **fields}))


def test_the_ca_configuration_compares_its_index(bench: Bench) -> None:
    assert ca(bench, "set-config", Config={"ClusterID": "c", "Provider": "consul"}) is None
    first = bench.index
    assert ca(bench, "set-config", Config={"Provider": "vault", "ModifyIndex": first}) is True
    assert ca(bench, "set-config", Config={"Provider": "aws", "ModifyIndex": first}) is False
    config = bench.store.ca_config.get("")
    assert config is not None
    assert (config["ClusterID"], config["Provider"], config["CreateIndex"]) == ("c", "vault", first)


def test_ca_roots_are_replaced_as_a_whole(bench: Bench) -> None:
    assert "exactly one active" in refused(ca(bench, "set-roots", Roots=[{"ID": "r1"}]))
    assert ca(bench, "set-roots", Roots=[{"ID": "r1", "Active": True}]) is True
    first = bench.index
    assert ca(bench, "set-roots", Roots=[{"ID": "r2", "Active": True}]) is False
    two = [{"ID": "r1"}, {"ID": "r2", "Active": True}]
    config = {"Provider": "consul"}
    assert ca(bench, "set-roots-config", Roots=two, Index=first, Config=config) is True
    assert [(row["ID"], row["CreateIndex"]) for row in bench.store.ca_roots.values()] == [
        ("r1", first),
        ("r2", bench.index),
    ]


def test_ca_provider_states_and_serials(bench: Bench) -> None:
    assert ca(bench, "set-provider-state", ProviderState={"ID": "p"}) is True
    state = bench.index
    assert ca(bench, "increment-provider-serial") == state + 1
    assert ca(bench, "increment-provider-serial") == state + 2
    assert ca(bench, "delete-provider-state", ProviderState={"ID": "p"}) is True
    assert bench.store.indexes["connect-ca-builtin"] == bench.index
    assert len(bench.store.ca_provider_states) == 0
