"""ACL objects as the API answers them, for a pretended agent."""

TOKEN = "983e71a1-9722-e717-cb47-8cb0a686f41b"
SECRET = "6b3e5e8a-2f6c-4f0e-9d0c-0a4f5b6f7a11"
BOOT = "deba4b3b-38b7-d10d-6a3e-240ade7f7d05"
ANONYMOUS = "00000000-0000-0000-0000-000000000002"
MANAGEMENT = "00000000-0000-0000-0000-000000000001"
KVR = "ab2128d9-2295-e679-8d98-4e336c5aed41"
R1 = "41c3301e-b1a2-bedd-e881-304a9adb7847"
RULE = "43cb72df-9c6f-4315-ac8a-01a9d98155ef"
HASH = "eQw3gzqaZi9X1oGDvARqVLcDAHcezsZTgEZJ8nQrlKE="
RULES = 'key_prefix "" { policy = "read" }'
KVR_LINK = {"ID": KVR, "Name": "kvr"}
INDEXES = {"CreateIndex": 18, "ModifyIndex": 20}


def boot_token():
    return {
        "AccessorID": BOOT,
        "SecretID": SECRET,
        "Description": "Bootstrap Token (Global Management)",
        "Policies": [{"ID": MANAGEMENT, "Name": "global-management"}],
        "Local": False,
        "CreateTime": "2026-11-23T04:46:20.908141784Z",
        "Hash": HASH,
        **INDEXES,
    }


def token(**changes):
    return {
        "AccessorID": TOKEN,
        "SecretID": SECRET,
        "Description": "t1",
        "Policies": [KVR_LINK],
        "ServiceIdentities": [{"ServiceName": "web", "Datacenters": ["dc3"]}],
        "NodeIdentities": [{"NodeName": "n3", "Datacenter": "dc3"}],
        "Local": False,
        "ExpirationTime": "2026-11-23T05:46:21.935074213Z",
        "CreateTime": "2026-11-23T04:46:21.935074213Z",
        "Hash": HASH,
        **INDEXES,
        **changes,
    }


def stub(row):
    """A row of the listing of tokens."""
    return {name: value for name, value in row.items() if name not in ("SecretID", "Rules")}


def policy(**changes):
    return {
        "ID": KVR,
        "Name": "kvr",
        "Description": "kv read",
        "Rules": RULES,
        "Hash": HASH,
        **INDEXES,
        **changes,
    }


def policies():
    management = {
        "ID": MANAGEMENT,
        "Name": "global-management",
        "Description": "Builtin Policy that grants unlimited access",
        "Datacenters": None,
        "Hash": HASH,
        **INDEXES,
    }
    listed = {name: value for name, value in policy().items() if name != "Rules"}
    return [management, {**listed, "Datacenters": None}]


def role(**changes):
    return {
        "ID": R1,
        "Name": "r1",
        "Description": "",
        "Policies": [KVR_LINK],
        "Hash": HASH,
        **INDEXES,
        **changes,
    }


def method(**changes):
    return {
        "MaxTokenTTL": "5m0s",
        "Name": "ci",
        "Type": "jwt",
        "Description": "builds",
        "Config": {"JWTSupportedAlgs": ["RS256"], "BoundIssuer": "ci"},
        **INDEXES,
        **changes,
    }


def rule(**changes):
    return {
        "ID": RULE,
        "Description": "",
        "AuthMethod": "ci",
        "Selector": "value.project == web",
        "BindType": "role",
        "BindName": "deploy",
        **INDEXES,
        **changes,
    }


def fill(agent):
    """Give the pretended agent these objects; writes are answered with them, too."""
    agent.answers |= {
        "/v1/acl/tokens": [stub(boot_token()), stub(token())],
        f"/v1/acl/token/{TOKEN}": token(),
        "/v1/acl/token/self": boot_token(),
        "/v1/acl/policies": policies(),
        f"/v1/acl/policy/{KVR}": policy(),
        "/v1/acl/roles": [role()],
        f"/v1/acl/role/{R1}": role(),
        "/v1/acl/role/name/r1": role(),
        "/v1/acl/auth-methods": [{name: value for name, value in method().items() if name != "Config"}],
        "/v1/acl/auth-method/ci": method(),
        "/v1/acl/binding-rules": [rule()],
        f"/v1/acl/binding-rule/{RULE}": rule(),
        "/v1/acl/templated-policies": {
            "builtin/service": {"TemplateName": "builtin/service", "Description": "Rights of a service."},
            "builtin/dns": {"TemplateName": "builtin/dns", "Description": "Rights to answer DNS."},
        },
        "/v1/acl/templated-policy/name/builtin/service": {
            "TemplateName": "builtin/service",
            "Schema": '{"required": ["name"]}',
            "Template": 'service "{{.Name}}" { policy = "write" }',
            "Description": "Rights of a service.",
        },
        "/v1/acl/templated-policy/name/builtin/dns": {
            "TemplateName": "builtin/dns",
            "Schema": "",
            "Template": 'node_prefix "" { policy = "read" }',
            "Description": "",
        },
    }
    for kind, row in (
        ("policy", policy()),
        ("role", role()),
        ("token", token()),
        ("auth-method", method()),
        ("binding-rule", rule()),
    ):
        identity = row.get("ID") or row.get("AccessorID") or row["Name"]
        for path in (f"PUT /v1/acl/{kind}", f"PUT /v1/acl/{kind}/{identity}"):
            agent.replies[path] = row
        agent.replies[f"DELETE /v1/acl/{kind}/{identity}"] = True
