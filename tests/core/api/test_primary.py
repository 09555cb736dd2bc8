"""Which work goes to the primary datacenter."""

from __future__ import annotations

from typing import Any

import pytest

from core.acl.settings import AclSettings
from core.api import (
    acl_bootstrap,
    acl_login,
    acl_methods,
    acl_policies,
    acl_roles,
    acl_token_write,
    acl_tokens,
    catalog,
    config_entry,
    kv,
)
from core.api.acl_requests import (
    ACLAuthMethodSetRequest,
    ACLLoginRequest,
    ACLPolicySetRequest,
    ACLTokenDeleteRequest,
    ACLTokenSetRequest,
    TokenRead,
)
from core.api.endpoint import Action, Command, Errand, QueryOptions, Question, Read, Write
from core.api.primary import primary
from core.api.remote_kinds import unrendered
from core.errors import Invalid
from core.store.acl_structs import ACLAuthMethod, ACLToken, ACLTokenBatchSetRequest
from core.store.commands import ACL_TOKEN_SET, command
from core.store.fsm import FSM

LOCAL, GLOBAL = "00000000-1111-0000-0000-000000000001", "00000000-1111-0000-0000-000000000002"


def owner(replication: bool = True) -> Any:
    fsm = FSM()
    tokens = [
        ACLToken(accessor_id=LOCAL, secret_id="l", local=True),
        ACLToken(accessor_id=GLOBAL, secret_id="g"),
    ]
    fsm.apply(1, command(ACL_TOKEN_SET, ACLTokenBatchSetRequest(tokens)))
    settings = AclSettings(
        enabled=True, datacenter="dc2", primary_datacenter="dc1", token_replication=replication
    )
    return primary(settings, fsm.store)


def do(action: Action, args: Any = None, datacenter: str = "") -> Errand:
    return Errand(action, args, unrendered, datacenter)


def ask(read: Read, args: Any = None, datacenter: str = "") -> Question:
    return Question(read, args, QueryOptions(datacenter=datacenter), unrendered)


def write(kind: Write, datacenter: str = "") -> Command:
    return Command(kind, None, unrendered, datacenter)


def test_the_primary_sends_nothing_to_itself() -> None:
    settings = AclSettings(enabled=True, datacenter="dc1", primary_datacenter="dc1")
    assert primary(settings, FSM().store) is None


@pytest.mark.parametrize("replication", [True, False])
@pytest.mark.parametrize(
    "work",
    [
        do(acl_policies.SET, ACLPolicySetRequest()),
        do(acl_policies.DELETE),
        do(acl_roles.SET),
        do(acl_roles.DELETE),
        do(acl_bootstrap.BOOTSTRAP),
        do(acl_token_write.SET, ACLTokenSetRequest()),
        do(acl_token_write.DELETE, ACLTokenDeleteRequest(GLOBAL)),
        do(acl_token_write.CLONE, ACLTokenSetRequest(ACLToken(accessor_id=GLOBAL))),
        do(acl_token_write.DELETE, ACLTokenDeleteRequest("nobody")),
        do(acl_policies.SET, None, "dc2"),
        write(config_entry.APPLY),
        write(config_entry.DELETE, "dc2"),
    ],
)
def test_what_holds_everywhere(work: Any, replication: bool) -> None:
    assert owner(replication).owns(work)


@pytest.mark.parametrize(
    "work",
    [
        do(acl_token_write.SET, ACLTokenSetRequest(ACLToken(local=True))),
        do(acl_token_write.DELETE, ACLTokenDeleteRequest(LOCAL)),
        do(acl_methods.SET_METHOD, ACLAuthMethodSetRequest()),
        do(acl_login.LOGIN, ACLLoginRequest()),
        do(acl_policies.SET, None, "dc3"),
        ask(acl_tokens.READ, TokenRead("x")),
        ask(acl_policies.RESOLVE),
        ask(acl_policies.LIST),
        ask(catalog.LIST_NODES),
        write(kv.APPLY),
    ],
)
def test_what_does_not(work: Any) -> None:
    assert not owner().owns(work)


def test_logins_here_make_tokens_for_here() -> None:
    method = ACLAuthMethodSetRequest(ACLAuthMethod(name="m", token_locality="global"))
    with pytest.raises(Invalid, match="TokenLocality 'global' can only be used in the primary datacenter"):
        owner().owns(do(acl_methods.SET_METHOD, method))


def test_a_follower_leaves_it_to_the_leader_whose_a_token_is_that_it_does_not_know() -> None:
    work = do(acl_token_write.DELETE, ACLTokenDeleteRequest("new"))
    assert owner().owns(work) and not owner().owns(work, leads=False)
    assert owner().owns(do(acl_token_write.DELETE, ACLTokenDeleteRequest(GLOBAL)), leads=False)


def test_without_copies_the_primary_knows_the_tokens() -> None:
    made = owner(replication=False)
    for read in (acl_tokens.READ, acl_tokens.LIST, acl_tokens.BATCH, acl_policies.RESOLVE, acl_roles.RESOLVE):
        assert made.owns(ask(read)) and made.owns(ask(read, datacenter="dc2"))
        assert not made.owns(ask(read, datacenter="dc3"))
    assert not made.owns(ask(acl_policies.READ))
    with pytest.raises(Invalid, match="Local tokens are disabled"):
        made.owns(do(acl_token_write.SET, ACLTokenSetRequest(ACLToken(local=True))))
    actions = (acl_methods.SET_METHOD, acl_methods.SET_RULE, acl_login.LOGIN, acl_login.LOGOUT)
    works: list[Any] = [do(one) for one in actions]
    works += [ask(one) for one in (acl_methods.READ_METHOD, acl_methods.LIST_METHODS, acl_methods.LIST_RULES)]
    for work in works:
        with pytest.raises(Invalid, match="Token replication is required"):
            made.owns(work)
    assert not made.owns(ask(acl_methods.LIST_METHODS, datacenter="dc3"))
    assert not owner().owns(ask(acl_methods.LIST_METHODS))
