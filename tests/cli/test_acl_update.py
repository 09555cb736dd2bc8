"""What updates of ACL objects send: what stays, what is added, what is replaced."""

import json

import pytest

from tests.cli.acl_rows import KVR, KVR_LINK, MANAGEMENT, R1, RULE, RULES, TOKEN, fill, role, token


@pytest.fixture(autouse=True)
def objects(agent):
    fill(agent)


@pytest.fixture
def update(ctl, agent):
    """Run an update and give the body that was sent."""

    def call(kind, *words):
        result = ctl("acl", kind, "update", *words)
        assert (result.code, result.err) == (0, "")
        method, path, body, _ = agent.requests[-1]
        assert (method, path.split("/")[3]) == ("PUT", kind)
        return json.loads(body)

    return call


def changed(before, **changes):
    return {**before, **changes}


WEB = {"ServiceName": "web", "Datacenters": ["dc3"]}
N3 = {"NodeName": "n3", "Datacenter": "dc3"}


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        ([], {}),
        (["-description=new"], {"Description": "new"}),
        (["-description="], {"Description": ""}),
        (["-policy-name=a", "-policy-id=0"], {"Policies": [{"Name": "a"}, {"ID": MANAGEMENT}]}),
        (["-append-policy-name=a"], {"Policies": [KVR_LINK, {"Name": "a"}]}),
        (["-append-policy-id=0", "-append-policy-name=kvr"], {"Policies": [KVR_LINK, {"ID": MANAGEMENT}]}),
        (["-policy-name=kvr", "-policy-name=a", "-merge-policies"], {"Policies": [KVR_LINK, {"Name": "a"}]}),
        ([f"-policy-id={KVR}", "-merge-policies"], {}),
        (["-role-name=x"], {"Roles": [{"Name": "x"}]}),
        (["-append-role-id=41", "-append-role-id=41c"], {"Roles": [{"ID": R1}]}),
        (["-service-identity=db"], {"ServiceIdentities": [{"ServiceName": "db"}]}),
        (
            ["-append-service-identity=db:dc1", "-append-service-identity=web"],
            {"ServiceIdentities": [{"ServiceName": "web"}, {"ServiceName": "db", "Datacenters": ["dc1"]}]},
        ),
        (
            ["-service-identity=db", "-merge-service-identities"],
            {"ServiceIdentities": [WEB, {"ServiceName": "db"}]},
        ),
        (["-node-identity=n4:dc1"], {"NodeIdentities": [{"NodeName": "n4", "Datacenter": "dc1"}]}),
        (
            ["-append-node-identity=n3:dc3", "-append-node-identity=n3:dc4"],
            {"NodeIdentities": [N3, {"NodeName": "n3", "Datacenter": "dc4"}]},
        ),
        (["-node-identity=n3:dc3", "-merge-node-identities"], {}),
        (
            ["-append-templated-policy=builtin/dns"],
            {"TemplatedPolicies": [{"TemplateName": "builtin/node"}, {"TemplateName": "builtin/dns"}]},
        ),
        (
            ["-replace-templated-policy=builtin/service", "-var=name:api"],
            {
                "TemplatedPolicies": [
                    {"TemplateName": "builtin/service", "TemplateVariables": {"Name": "api"}}
                ]
            },
        ),
    ],
)
def test_tokens(update, agent, words, changes):
    before = token(Roles=[], TemplatedPolicies=[{"TemplateName": "builtin/node"}])
    agent.answers[f"/v1/acl/token/{TOKEN}"] = before
    assert update("token", "-id=983", *words) == changed(before, **changes)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["-policy-name=a", "-append-policy-id=b"], "Cannot combine the use of policy-id/policy-name flags"),
        (["-role-id=a", "-append-role-id=b"], "Cannot combine the use of role-id/role-name flags"),
        (["-service-identity=a", "-append-service-identity=b"], "Cannot combine the use of service-identity"),
        (["-node-identity=a:b", "-append-node-identity=c:d"], "Cannot combine the use of node-identity"),
        (
            ["-append-templated-policy=a", "-replace-templated-policy=b"],
            "Cannot combine the -append-templated-policy flags",
        ),
        (
            ["-append-templated-policy=a", "-append-templated-policy-file=b"],
            "Cannot combine -append-templated-policy with -append-templated-policy-file",
        ),
    ],
)
def test_replacing_and_adding_at_once_is_refused(ctl, agent, words, text):
    result = ctl("acl", "token", "update", "-id=983", *words)
    assert result.code == 1
    assert result.err.startswith(text)
    assert all(method == "GET" for method, *_ in agent.requests)


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        ([], {}),
        (["-name=r2", "-description="], {"Name": "r2", "Description": ""}),
        (["-policy-name=a", "-policy-name=kvr"], {"Policies": [KVR_LINK, {"Name": "a"}]}),
        (["-service-identity=web"], {"ServiceIdentities": [{"ServiceName": "web"}]}),
        (["-append-templated-policy=builtin/dns"], {"TemplatedPolicies": [{"TemplateName": "builtin/dns"}]}),
    ],
)
def test_roles(update, words, changes):
    empty = {"ServiceIdentities": [], "NodeIdentities": []}
    assert update("role", "-id=41", *words) == {**role(), **empty, **changes}


def test_roles_without_merging(update):
    assert update("role", "-id=41", "-no-merge", "-name=r2", "-node-identity=n1:dc1") == {
        "ID": R1,
        "Name": "r2",
        "Description": "",
        "Policies": [],
        "ServiceIdentities": [],
        "NodeIdentities": [{"NodeName": "n1", "Datacenter": "dc1"}],
    }


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        (["-name=kvr"], {}),
        (["-id=ab", "-name=better"], {"Name": "better"}),
        (["-id=ab", "-description=", "-valid-datacenter=dc1"], {"Description": "", "Datacenters": ["dc1"]}),
        (["-id=ab", '-rules=acl = "read"'], {"Rules": 'acl = "read"'}),
        (["-id=ab", "-no-merge"], {"Name": "", "Description": "", "Rules": ""}),
    ],
)
def test_policies(update, words, changes):
    before = {"ID": KVR, "Name": "kvr", "Description": "kv read", "Rules": RULES, "Datacenters": None}
    assert update("policy", *words) == {**before, **changes}


def test_auth_methods(update, agent):
    before = agent.answers["/v1/acl/auth-method/ci"]
    assert update("auth-method", "-name=ci", "-max-token-ttl=90s", '-config={"BoundIssuer": "new"}') == {
        **before,
        "MaxTokenTTL": "1m30s",
        "Config": {"JWTSupportedAlgs": ["RS256"], "BoundIssuer": "new"},
    }
    assert update("auth-method", "-name=ci", "-no-merge", "-display-name=CI") == {
        "Name": "ci",
        "Type": "jwt",
        "DisplayName": "CI",
    }


def test_binding_rules(update, agent):
    before = agent.answers[f"/v1/acl/binding-rule/{RULE}"]
    assert update("binding-rule", "-id=43", "-description=d") == {**before, "Description": "d"}
    assert update("binding-rule", "-id=43", "-selector=", "-bind-type=service") == {
        **before,
        "Selector": "",
        "BindType": "service",
    }
    assert update("binding-rule", "-id=43", "-no-merge", "-bind-name=web") == {
        "ID": RULE,
        "AuthMethod": "ci",
        "BindType": "service",
        "BindName": "web",
    }


def test_what_is_gone_cannot_be_changed(ctl, agent):
    for kind, identity, text in (
        ("role", R1, f'Role not found with ID "{R1}"'),
        ("binding-rule", RULE, f'Binding rule not found with ID "{RULE}"'),
    ):
        del agent.answers[f"/v1/acl/{kind}/{identity}"]
        result = ctl("acl", kind, "update", f"-id={identity}", "--strict-exit")
        assert (result.code, result.err) == (3, text + "\n")
    agent.failures[f"/v1/acl/token/{TOKEN}"] = (403, "ACL not found")
    gone = ctl("acl", "token", "update", f"-id={TOKEN}")
    assert gone.err == (
        "Error when retrieving current token: Unexpected response code: 403 (ACL not found)\n"
    )
