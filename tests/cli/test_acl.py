"""`ctl acl` in a pipe: Consul's texts, from what its API answers."""

import json
from typing import get_args

import pytest

from cli.acl import RIGHTS
from core.acl.access import Resource
from tests.cli.acl_rows import (
    ANONYMOUS,
    BOOT,
    KVR,
    MANAGEMENT,
    R1,
    RULE,
    RULES,
    SECRET,
    TOKEN,
    boot_token,
    fill,
    policy,
    role,
    token,
)


@pytest.fixture(autouse=True)
def objects(agent):
    fill(agent)


def sent(agent):
    """Method, path and decoded body of the last request."""
    method, path, body, _ = agent.requests[-1]
    return method, path, json.loads(body) if body else None


BOOTSTRAP = f"""\
AccessorID:       {BOOT}
SecretID:         {SECRET}
Description:      Bootstrap Token (Global Management)
Local:            false
Create Time:      2026-11-23 04:46:20.908141784 +0000 UTC
Policies:
   {MANAGEMENT} - global-management

"""


def test_bootstrap(ctl, agent, tmp_path):
    agent.replies["PUT /v1/acl/bootstrap"] = boot_token()
    assert ctl("acl", "bootstrap").out == BOOTSTRAP
    assert sent(agent) == ("PUT", "/v1/acl/bootstrap", None)
    assert ctl("acl", "bootstrap", "--quiet").out == f"{SECRET}\n"
    assert json.loads(ctl("acl", "bootstrap", "-format=json").out) == boot_token()
    ctl("acl", "bootstrap", "-", stdin=b"  wished\n")
    assert sent(agent)[2] == {"BootstrapSecret": "wished"}
    file = tmp_path / "secret"
    file.write_text("from-a-file\n")
    ctl("acl", "bootstrap", str(file))
    assert sent(agent)[2] == {"BootstrapSecret": "from-a-file"}
    refused = ctl("acl", "bootstrap", "a", "b")
    assert (refused.code, refused.err) == (1, "This command takes up to one argument\n")


def test_bootstrap_twice(ctl, agent):
    text = "Permission denied: ACL bootstrap no longer allowed (reset index: 17)"
    agent.failures["/v1/acl/bootstrap"] = (403, text)
    result = ctl("acl", "bootstrap")
    assert result.code == 1
    assert result.err == f"Failed ACL bootstrapping: Unexpected response code: 403 ({text})\n"
    assert ctl("acl", "bootstrap", "--strict-exit").code == 4


CREATED = f"""\
AccessorID:       {TOKEN}
SecretID:         {SECRET}
Description:      t1
Local:            false
Create Time:      2026-11-23 04:46:21.935074213 +0000 UTC
Expiration Time:  2026-11-23 05:46:21.935074213 +0000 UTC
Policies:
   {KVR} - kvr
Service Identities:
   web (Datacenters: dc3)
Node Identities:
   n3 (Datacenter: dc3)

"""


def test_token_create(ctl, agent):
    agent.replies["PUT /v1/acl/token"] = token()
    words = ["-description=t1", "-policy-name=kvr", "-service-identity=web:dc3", "-node-identity=n3:dc3"]
    assert ctl("acl", "token", "create", *words, "-expires-ttl=1h").out == CREATED
    assert sent(agent) == (
        "PUT",
        "/v1/acl/token",
        {
            "Description": "t1",
            "ExpirationTTL": "1h0m0s",
            "ServiceIdentities": [{"ServiceName": "web", "Datacenters": ["dc3"]}],
            "NodeIdentities": [{"NodeName": "n3", "Datacenter": "dc3"}],
            "Policies": [{"Name": "kvr"}],
        },
    )
    words = [
        "--accessor",
        TOKEN,
        "--secret",
        SECRET,
        "--local",
        "--policy-id=ab21",
        "--role-id=41c",
        "-quiet",
    ]
    assert ctl("acl", "token", "create", *words, "-role-name=r2", "-policy-id=global-management").out == (
        f"{SECRET}\n"
    )
    assert sent(agent)[2] == {
        "AccessorID": TOKEN,
        "SecretID": SECRET,
        "Local": True,
        "Policies": [{"ID": KVR}, {"ID": MANAGEMENT}],
        "Roles": [{"Name": "r2"}, {"ID": R1}],
    }


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            "token create",
            "Cannot create a token without specifying -policy-name, -policy-id, -role-name, -role-id, "
            "-service-identity, or -node-identity at least once",
        ),
        ("token create -service-identity=a:b:c", 'Malformed -service-identity argument: "a:b:c"'),
        ("token create -node-identity=a", 'Malformed -node-identity argument: "a"'),
        (
            "token create -policy-id=zz",
            "Error resolving policy ID zz: No such policy ID with prefix: zz",
        ),
        ("token create -role-id=zz", "Error resolving role ID zz: No such role ID with prefix: zz"),
        ("token read", "Must specify the -id parameter"),
        ("token read -id=zzzz", "Error determining token ID: No such token ID with prefix: zzzz"),
        (
            "token read -self -expanded",
            "Cannot use both -expanded and -self. Instead, use -expanded and -accessor-id=<accessor id>.",
        ),
        ("token update", "Cannot update a token without specifying the -id parameter"),
        ("token update -id=983 -upgrade-legacy", "Can't use -upgrade-legacy on a non-legacy token"),
        ("token clone", "Cannot update a token without specifying the -id parameter"),
        ("token delete", "Must specify the -id parameter"),
        ("policy list -format=xml", "Unknown format: xml"),
        ("policy read", "Must specify either the -id or -name parameters"),
        ("policy delete -name=nosuch", "Error determining policy ID: No such policy with name nosuch"),
        ("policy read -name=nosuch", "Error determining policy ID: No such policy with name nosuch"),
        (
            "policy create -name=x -rules=@/no/such",
            "Error loading rules: -rules: Failed to read file: open /no/such: no such file or directory",
        ),
        (
            "policy create -name=x -rules=a -from-token=b",
            "Error loading rules: Cannot specify both -rules and -from-token",
        ),
        (
            "role create -name=x",
            "Cannot create a role without specifying -policy-name, -policy-id, -service-identity, "
            "or -node-identity at least once",
        ),
        ("role read", "Must specify either the -id or -name parameters"),
        ("role read -name=nosuch", 'Role not found with name "nosuch"'),
        ("role update", "Cannot update a role without specifying the -id parameter"),
        ("role delete -name=nosuch", "Error determining role ID: No such role with name nosuch"),
        ("auth-method read", "Must specify the -name parameter"),
        ("auth-method read -name=nosuch", 'Auth method not found with name "nosuch"'),
        (
            "auth-method update",
            "Cannot update an auth method without specifying the -name parameter",
        ),
        (
            "auth-method create -name=x -type=jwt -config=[1]",
            "Error parsing JSON configuration file: it is no JSON object",
        ),
        ("binding-rule read", "Must specify the -id parameter."),
        ("binding-rule delete", "Must specify the -id parameter"),
        (
            "binding-rule update -id=zz",
            "Error determining binding rule ID: No such rule ID with prefix: zz",
        ),
        ("set-agent-token", "Error! Missing TYPE and TOKEN arguments"),
        ("set-agent-token agent", "Error! Missing TOKEN argument"),
        ("set-agent-token bogus x", "Unknown token type"),
        ("set-agent-token agent a b", "Error! Too many arguments: expected 2 got 3"),
        ("translate-rules", "Error! Missing TRANSLATE argument"),
        ("translate-rules a b", "Error! Too many arguments: expected 1 got 2"),
        (
            "templated-policy preview",
            "Cannot preview a templated policy without specifying -name or -file",
        ),
        ("templated-policy read -name=no", 'Templated policy not found with name "no"'),
        ("why service", 'Error: "service" is no right; it is RESOURCE:ACCESS, as service:read'),
        ("why service:list", 'Error: "service:list" is no right; it is RESOURCE:ACCESS, as service:read'),
    ],
)
def test_bad_use(ctl, words, text):
    result = ctl("acl", *words.split())
    assert (result.code, result.out, result.err) == (1, "", text + "\n")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("policy create", "Missing require '-name' flag"),
        ("role create", "Missing require '-name' flag"),
        ("auth-method create", "Missing required '-type' flag"),
        ("auth-method create -type=jwt", "Missing required '-name' flag"),
        ("binding-rule create", "Missing required '-method' flag"),
        ("binding-rule create -method=ci", "Missing required '-bind-name' flag"),
        ("binding-rule update -id=43 -no-merge", "Missing required '-bind-name' flag"),
    ],
)
def test_usage_after_a_missing_flag(ctl, words, text):
    result = ctl("acl", *words.split())
    command = " ".join(words.split()[:2])
    assert result.code == 1
    assert result.err.startswith(f"{text}\nUsage: ctl acl {command} ")


LISTED = f"""\
AccessorID:       {BOOT}
Description:      Bootstrap Token (Global Management)
Local:            false
Create Time:      2026-11-23 04:46:20.908141784 +0000 UTC
Legacy:           false
Policies:
   {MANAGEMENT} - global-management

AccessorID:       {TOKEN}
Description:      t1
Local:            false
Create Time:      2026-11-23 04:46:21.935074213 +0000 UTC
Expiration Time:  2026-11-23 05:46:21.935074213 +0000 UTC
Legacy:           false
Policies:
   {KVR} - kvr
Service Identities:
   web (Datacenters: dc3)
Node Identities:
   n3 (Datacenter: dc3)

"""


def test_token_list(ctl, agent):
    assert ctl("acl", "token", "list").out == LISTED
    assert ctl("acl", "token", "list", "--quiet").out == f"{BOOT}\n{TOKEN}\n"
    listed = ctl("acl", "token", "list", "-format", "json")
    assert json.loads(listed.out) == [{**one, "Legacy": False} for one in agent.answers["/v1/acl/tokens"]]
    assert listed.out.startswith(
        '[\n    {\n        "CreateIndex": 18,\n        "ModifyIndex": 20,\n        "AccessorID"'
    )
    agent.answers["/v1/acl/tokens"] = []
    assert ctl("acl", "token", "list").out == ""
    agent.failures["/v1/acl/tokens"] = (403, "Permission denied")
    refused = "Failed to retrieve the token list: Unexpected response code: 403 (Permission denied)\n"
    assert ctl("acl", "token", "list").err == refused


ANONYMOUS_TEXT = f"""\
AccessorID:       {ANONYMOUS}
SecretID:         anonymous
Description:      Anonymous Token
Local:            false
Create Time:      2026-11-23 04:43:40.220271803 +0000 UTC

"""


def test_token_read(ctl, agent):
    anonymous = {
        "AccessorID": ANONYMOUS,
        "SecretID": "anonymous",
        "Description": "Anonymous Token",
        "Local": False,
        "CreateTime": "2026-11-23T04:43:40.220271803Z",
    }
    agent.answers[f"/v1/acl/token/{ANONYMOUS}"] = anonymous
    assert ctl("acl", "token", "read", f"-id={ANONYMOUS}").out == ANONYMOUS_TEXT
    assert ctl("acl", "token", "read", "-accessor-id", "anonymous").out == ANONYMOUS_TEXT
    assert len(agent.requests) == 2  # neither asked for the list
    assert ctl("acl", "token", "read", "-self").out == BOOTSTRAP
    meta = ctl("acl", "token", "read", "-id=98", "-meta").out.splitlines()
    assert meta[6:9] == [f"Hash:             {HASH_HEX}", "Create Index:     18", "Modify Index:     20"]
    method = token(AuthMethod="ci", CreateTime="2026-11-23T06:46:21+02:00")
    agent.answers[f"/v1/acl/token/{TOKEN}"] = method
    shown = ctl("acl", "token", "read", "-id=98").out
    assert "\nAuth Method:      ci (Namespace: )\n" in shown
    assert "\nCreate Time:      2026-11-23 06:46:21 +0200 +0200\n" in shown
    agent.answers["/v1/acl/tokens"] = [token(), token(AccessorID=TOKEN.replace("a1", "a2"))]
    assert ctl("acl", "token", "read", "-id=98").err == (
        "Error determining token ID: Partial token ID is not unique\n"
    )


HASH_HEX = "790c37833a9a662f57d68183bc046a54b70300771ecec653804649f2742b94a1"


def test_legacy_token(ctl, agent):
    agent.answers[f"/v1/acl/token/{TOKEN}"] = token(Rules='key "" { policy = "read" }')
    assert ctl("acl", "token", "read", "-id=98").out.endswith('Rules:\nkey "" { policy = "read" }\n\n')
    created = ctl("acl", "policy", "create", "-name=old", f"-from-token={TOKEN}")
    assert created.code == 0
    assert sent(agent)[2]["Rules"] == 'key_prefix "" {\n  policy = "read"\n}'
    assert ctl("acl", "translate-rules", "-token-accessor", TOKEN).out == (
        'key_prefix "" {\n  policy = "read"\n}\n'
    )
    ctl("acl", "token", "update", "-id=98", "-upgrade-legacy")
    assert sent(agent)[2]["Rules"] == ""
    refused = ctl("acl", "translate-rules", "-token-secret", "-", stdin=b"secret\n")
    assert refused.err == "Token is not a legacy token with rules\n"
    assert agent.requests[-1][3]["X-Consul-Token"] == "secret"


def test_token_delete_and_clone(ctl, agent):
    assert ctl("acl", "token", "delete", "-id=98").out == f'Token "{TOKEN}" deleted successfully\n'
    assert sent(agent)[:2] == ("DELETE", f"/v1/acl/token/{TOKEN}")
    agent.failures[f"/v1/acl/token/{ANONYMOUS}"] = (
        500,
        "Delete operation not permitted on the anonymous token",
    )
    assert ctl("acl", "token", "delete", "-id=anonymous").err == (
        f'Error deleting token "{ANONYMOUS}": Unexpected response code: 500 '
        "(Delete operation not permitted on the anonymous token)\n"
    )
    agent.replies[f"PUT /v1/acl/token/{TOKEN}/clone"] = token()
    assert ctl("acl", "token", "clone", "-id=98", "-description=copy").out == CREATED
    assert sent(agent)[2] == {"Description": "copy"}


POLICY = f"""\
ID:           {KVR}
Name:         kvr
Description:  kv read
Datacenters:  \nRules:
{RULES}
"""
POLICIES = f"""\
global-management:
   ID:           {MANAGEMENT}
   Description:  Builtin Policy that grants unlimited access
   Datacenters:  \nkvr:
   ID:           {KVR}
   Description:  kv read
   Datacenters:  \n
"""


def test_policies(ctl, agent, tmp_path):
    file = tmp_path / "rules.hcl"
    file.write_text(RULES)
    for given, stdin in ((RULES, b""), (f"@{file}", b""), ("-", RULES.encode())):
        words = ["-name=kvr", "-description=kv read", "-valid-datacenter=dc1", "-rules", given]
        ctl("acl", "policy", "create", *words, stdin=stdin)
        document = {"Name": "kvr", "Description": "kv read", "Rules": RULES, "Datacenters": ["dc1"]}
        assert sent(agent) == ("PUT", "/v1/acl/policy", document)
    assert ctl("acl", "policy", "create", "-name=kvr", "-description=kv read", "-rules", RULES).out == POLICY
    assert ctl("acl", "policy", "list").out == POLICIES
    assert ctl("acl", "policy", "list", "--quiet").out == "global-management\nkvr\n"
    assert ctl("acl", "policy", "read", "-name=kvr").out == POLICY
    meta = POLICY.replace("Rules:", f"Hash:         {HASH_HEX}\nCreate Index: 18\nModify Index: 20\nRules:")
    assert ctl("acl", "policy", "read", "-id=ab2", "-meta").out == meta
    assert ctl("acl", "policy", "delete", "-name=kvr").out == f'Policy "{KVR}" deleted successfully\n'
    assert sent(agent)[:2] == ("DELETE", f"/v1/acl/policy/{KVR}")
    deleted = ctl("acl", "policy", "delete", "-name=kvr", "-o", "json")
    assert json.loads(deleted.out) == {"Deleted": KVR}


def test_bad_rules(ctl, agent):
    agent.failures["/v1/acl/policy"] = (500, "Failed to parse ACL rules: At 1:6: ...")
    assert ctl("acl", "policy", "create", "-name=x", "-rules=key {").err == (
        "Failed to create new policy: Unexpected response code: 500 "
        "(Failed to parse ACL rules: At 1:6: ...)\n"
    )
    assert "not UTF-8" in ctl("acl", "policy", "create", "-name=x", "-rules=-", stdin=b"\xff").err
    assert "not UTF-8" in ctl("acl", "policy", "create", "-name=\udcff").err


def test_formats_by_name_of_the_program(ctl):
    assert ctl("acl", "policy", "list", "-format=yaml").out.startswith("- ID: ")
    as_consul = ctl("acl", "policy", "list", "-format=yaml", name="consul")
    assert (as_consul.code, as_consul.err) == (1, "Unknown format: yaml\n")
    assert ctl("acl", "policy", "list", "-format=pretty", name="consul").out == POLICIES


ROLE = f"""\
ID:           {R1}
Name:         r1
Description:  \nPolicies:
   {KVR} - kvr

"""
ROLES = f"""\
r1:
   ID:           {R1}
   Description:  \n   Policies:
      {KVR} - kvr
   Templated Policies:
      builtin/service
         Name: api
         Datacenters: all

"""


def test_roles(ctl, agent):
    assert ctl("acl", "role", "create", "-name=r1", "-policy-name=kvr").code == 0
    assert sent(agent)[2] == {"Name": "r1", "Description": "", "Policies": [{"Name": "kvr"}]}
    assert ctl("acl", "role", "read", "-name=r1").out == ROLE
    assert ctl("acl", "role", "read", "-id=41c").out == ROLE
    templated = [{"TemplateName": "builtin/service", "TemplateVariables": {"Name": "api"}}]
    agent.answers["/v1/acl/roles"] = [role(TemplatedPolicies=templated)]
    assert ctl("acl", "role", "list").out == ROLES
    assert ctl("acl", "role", "delete", "-name=r1").out == f'Role "{R1}" deleted successfully\n'
    assert ctl("acl", "role", "delete", "-id=4").out == f'Role "{R1}" deleted successfully\n'


METHOD = """\
Name:          ci
Type:          jwt
Description:   builds
MaxTokenTTL:   5m0s
Config:
{
  "BoundIssuer": "ci",
  "JWTSupportedAlgs": [
    "RS256"
  ]
}
"""


def test_auth_methods(ctl, agent):
    words = ["-type=jwt", "-name=ci", "-description=builds", "-max-token-ttl=5m", "-token-locality=global"]
    ctl("acl", "auth-method", "create", *words, "-config=-", stdin=b'{"BoundIssuer": "x"}')
    assert sent(agent)[2] == {
        "Type": "jwt",
        "Name": "ci",
        "Description": "builds",
        "TokenLocality": "global",
        "MaxTokenTTL": "5m0s",
        "Config": {"BoundIssuer": "x"},
    }
    assert ctl("acl", "auth-method", "read", "-name=ci").out == METHOD
    meta = "ci:\n   Type:         jwt\n   Description:  builds\n   Create Index: 18\n   Modify Index: 20\n\n"
    assert ctl("acl", "auth-method", "list", "-meta").out == meta
    assert ctl("acl", "auth-method", "delete", "-name=ci").out == ('Auth method "ci" deleted successfully\n')


BINDING = """\
AuthMethod:   ci
Description:  \nBindType:     role
BindName:     deploy
Selector:     value.project == web
"""


def test_binding_rules(ctl, agent):
    words = ["-method=ci", "-bind-name=web", "-bind-vars=name=${value.x}", "-bind-type=templated-policy"]
    ctl("acl", "binding-rule", "create", *words)
    assert sent(agent)[2] == {
        "AuthMethod": "ci",
        "Description": "",
        "Selector": "",
        "BindType": "templated-policy",
        "BindName": "web",
        "BindVars": {"Name": "${value.x}"},
    }
    ctl("acl", "binding-rule", "create", "-method=ci", "-bind-name=web")
    assert sent(agent)[2]["BindType"] == "service"
    assert ctl("acl", "binding-rule", "read", "-id=43").out == f"ID:           {RULE}\n{BINDING}\n"
    indented = "".join(f"   {line}\n" for line in BINDING.splitlines())
    assert ctl("acl", "binding-rule", "list").out == f"{RULE}:\n{indented}\n"
    ctl("acl", "binding-rule", "list", "-method=ci")
    assert sent(agent)[1] == "/v1/acl/binding-rules?authmethod=ci"
    assert ctl("acl", "binding-rule", "delete", "-id=43").out == (
        f'Binding rule "{RULE}" deleted successfully\n'
    )


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("default", "default"),
        ("agent", "agent"),
        ("master", "agent_master"),
        ("recovery", "agent_recovery"),
        ("replication", "replication"),
        ("dns", "dns"),
        ("config_file_service_registration", "config_file_service_registration"),
    ],
)
def test_set_agent_token(ctl, agent, kind, path):
    result = ctl("acl", "set-agent-token", kind, SECRET)
    assert (result.code, result.out) == (0, f'ACL token "{kind}" set successfully\n')
    assert sent(agent) == ("PUT", f"/v1/agent/token/{path}", {"Token": SECRET})


def test_translate_rules(ctl, agent, tmp_path):
    old = 'service "web" { policy = "write" }'
    new = 'service_prefix "web" {\n  policy = "write"\n}\n'
    file = tmp_path / "old.hcl"
    file.write_text(old)
    assert ctl("acl", "translate-rules", old).out == new
    assert ctl("acl", "translate-rules", f"@{file}").out == new
    assert ctl("acl", "translate-rules", "-", stdin=old.encode()).out == new
    assert agent.requests == []
    assert ctl("acl", "translate-rules", "key {").err.startswith("Error translating rules: ")


SERVICE_TEMPLATE = """\
Name:            builtin/service
Description:     Rights of a service.
Input variables:
\tName: String - Required - The name of the service.
Example usage:
\tctl acl token create -templated-policy builtin/service -var name:api

"""


def test_templated_policies(ctl, agent, tmp_path):
    assert ctl("acl", "templated-policy", "list").out == "builtin/dns\nbuiltin/service\n\n"
    assert list(json.loads(ctl("acl", "templated-policy", "list", "-o=json").out)) == [
        "builtin/service",
        "builtin/dns",
    ]
    assert ctl("acl", "templated-policy", "read", "-name=builtin/service").out == SERVICE_TEMPLATE
    shown = ctl("acl", "templated-policy", "read", "-name=builtin/dns", "-meta", name="consul").out
    assert "Input variables: None\n" in shown
    assert "\tconsul acl token create -templated-policy builtin/dns\n" in shown
    assert shown.endswith('Raw Template:\nnode_prefix "" { policy = "read" }\n\n')
    path = "/v1/acl/templated-policy/preview/builtin/service"
    agent.replies[f"POST {path}"] = policy()
    preview = ["acl", "templated-policy", "preview"]
    assert ctl(*preview, "-name=builtin/service", "-var=name:api").out == POLICY
    assert sent(agent) == ("POST", path, {"Name": "api"})
    file = tmp_path / "one.hcl"
    file.write_text('TemplatedPolicy "builtin/service" { Name = "db" }')
    assert ctl(*preview, f"-file={file}").out == POLICY
    assert sent(agent)[2] == {"Name": "db"}
    assert ctl(*preview, "-name=x", "-var=colour:red").err.startswith("No template has the variable")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "has no TemplatedPolicy block"),
        ("Nonsense = 1", 'unknown word "Nonsense"'),
        ('TemplatedPolicy "a" { Name = 1 }', "a: only Name (text)"),
        ('TemplatedPolicy "a" { Colour = "red" }', "not Colour"),
        ("TemplatedPolicy = 1", 'it is TemplatedPolicy "NAME"'),
        ("TemplatedPolicy {", "object expected closing RBRACE"),
    ],
)
def test_bad_template_files(ctl, tmp_path, text, problem):
    file = tmp_path / "bad.hcl"
    file.write_text(text)
    result = ctl("acl", "templated-policy", "preview", f"-file={file}")
    assert result.code == 1
    assert result.err.startswith(f"Error reading templated policies: {file}")
    assert problem in result.err


EXPANDED = f"""\
AccessorID:       {TOKEN}
SecretID:         {SECRET}
Description:      t1
Local:            false
Create Time:      2026-11-23 04:46:21.935074213 +0000 UTC
Expiration Time:  2026-11-23 05:46:21.935074213 +0000 UTC
Policies:
\tPolicy Name: kvr
\t\tID: {KVR}
\t\tDescription: kv read
\t\tRules:
\t\t\t{RULES}

Templated Policies:
\tbuiltin/node
\t\tName: n1
\t\tDatacenters: all
\t\tRules:
\t\t\tnode "n1" {{
\t\t\t\tpolicy = "write"
\t\t\t}}
\t\t\tservice_prefix "" {{
\t\t\t\tpolicy = "read"
\t\t\t}}

Roles:
\tRole Name: r1
\t\tID: {R1}
\t\tDescription: \n\t\tPolicies:
\t\t\tPolicy Name: kvr
\t\t\t\tID: {KVR}
\t\t\t\tDescription: kv read
\t\t\t\tRules:
\t\t\t\t\t{RULES}

Default Policy:    deny
Down Policy:       extend-cache
Resolved By Agent: n1

"""


def test_expanded(ctl, agent):
    templated = [{"TemplateName": "builtin/node", "TemplateVariables": {"Name": "n1"}}]
    agent.answers[f"/v1/acl/token/{TOKEN}"] = {
        **token(ServiceIdentities=None, NodeIdentities=None, TemplatedPolicies=templated),
        "ExpandedPolicies": [policy()],
        "ExpandedRoles": [role()],
        "AgentACLDefaultPolicy": "deny",
        "AgentACLDownPolicy": "extend-cache",
        "ResolvedByAgent": "n1",
    }
    assert ctl("acl", "token", "read", "-id=98", "-expanded").out == EXPANDED
    assert sent(agent)[1] == f"/v1/acl/token/{TOKEN}?expanded=true"
    agent.answers[f"/v1/acl/token/{TOKEN}"]["TemplatedPolicies"] = [{"TemplateName": "builtin/new"}]
    assert "\t\t\t# " in ctl("acl", "token", "read", "-id=98", "-expanded").out


WHY = {
    "Allowed": False,
    "AccessorID": TOKEN,
    "Resource": "key",
    "Name": "a/b",
    "Access": "write",
    "Policy": "kvr",
    "Rule": RULES,
    "Default": "",
}


def test_why(ctl, agent):
    agent.answers["/v1/internal/acl/why"] = WHY
    result = ctl("acl", "why", "--token", SECRET, "key:write", "a/b")
    assert result.out == (
        f"Token:    {TOKEN}\nAsked:    key:write a/b\nAnswer:   denied\nPolicy:   kvr\nRule:     {RULES}\n"
    )
    assert result.code == 1
    method, path, _, headers = agent.requests[-1]
    assert (method, path) == ("GET", "/v1/internal/acl/why?resource=key&name=a%2Fb&access=write")
    assert headers["X-Consul-Token"] == SECRET
    agent.answers["/v1/internal/acl/why"] = {
        **WHY,
        "Allowed": True,
        "Policy": "",
        "Rule": "",
        "Default": "allow",
    }
    result = ctl("acl", "why", "--accessor=98", "acl:read")
    assert (result.code, result.out) == (
        0,
        f"Token:    {TOKEN}\nAsked:    acl:read\nAnswer:   allowed\n"
        "Default:  allow (no rule of the token speaks of it)\n",
    )
    assert sent(agent)[1].endswith(f"&accessor={TOKEN}")
    assert ctl("acl", "why", "acl:read", "-quiet").out == "allowed\n"
    assert json.loads(ctl("acl", "why", "acl:read", "-o", "json").out)["Allowed"] is True


def test_why_knows_every_resource():
    assert {right.partition(":")[0] for right in RIGHTS} == set(get_args(Resource))
