"""ACL objects as text: line by line what Consul prints, and the tables of a terminal."""

from __future__ import annotations

from cli.output import Table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Json = dict[str, Any]

WIDE = 100  # columns of a terminal that has room for whole ids


def show_time(text: str) -> str:
    """A time of the API as Go prints one: `2026-11-23 04:46:20.9 +0000 UTC`."""
    day, separator, clock = text.partition("T")
    if not separator:
        return text
    if clock.endswith("Z"):
        return f"{day} {clock[:-1]} +0000 UTC"
    zone = clock[-6:].replace(":", "")
    return f"{day} {clock[:-6]} {zone} {zone}"


def show_hash(text: str | None) -> str:
    """A hash of the API (base64) in hexadecimal."""
    import binascii

    try:
        return binascii.a2b_base64(text or "").hex()
    except binascii.Error:
        return text or ""


def _meta(row: Json, meta: bool, width: int, *, hashed: bool = True) -> list[str]:
    if not meta:
        return []
    fields = [("Hash", show_hash(row.get("Hash")))] if hashed else []
    fields += [("Create Index", str(row["CreateIndex"])), ("Modify Index", str(row["ModifyIndex"]))]
    return [f"{name + ':':<{width}}{value}" for name, value in fields]


def _grants(row: Json) -> list[str]:
    """Policies, roles, identities and templates of a token or a role."""
    templated = []
    for one in row.get("TemplatedPolicies") or ():
        name = template_variable(one)
        templated.append(one["TemplateName"])
        if name:
            templated.append(f"   Name: {name}")
        templated.append(f"   Datacenters: {datacenters(one)}")
    return [
        *_section("Policies:", [f"{link['ID']} - {link['Name']}" for link in row.get("Policies") or ()]),
        *_section("Roles:", [f"{link['ID']} - {link['Name']}" for link in row.get("Roles") or ()]),
        *_section(
            "Service Identities:",
            [
                f"{one['ServiceName']} (Datacenters: {datacenters(one)})"
                for one in row.get("ServiceIdentities") or ()
            ],
        ),
        *_section(
            "Node Identities:",
            [
                f"{one['NodeName']} (Datacenter: {one['Datacenter']})"
                for one in row.get("NodeIdentities") or ()
            ],
        ),
        *_section("Templated Policies:", templated),
    ]


def _section(title: str, lines: list[str]) -> list[str]:
    return [title, *_indented(lines)] if lines else []


def datacenters(row: Json) -> str:
    """Where a grant is valid."""
    return ", ".join(row.get("Datacenters") or ()) or "all"


def template_variable(row: Json) -> str:
    """What a templated policy is filled with."""
    return str((row.get("TemplateVariables") or {}).get("Name") or "")


def _text(lines: list[str]) -> str:
    return "".join([line + "\n" for line in lines])


def _indented(lines: list[str]) -> list[str]:
    return ["   " + line for line in lines]


# tokens


def token_head(token: Json, meta: bool, *, listed: bool = False) -> list[str]:
    """The lines of a token before its grants."""
    lines = [f"AccessorID:       {token['AccessorID']}"]
    if not listed:
        lines.append(f"SecretID:         {token.get('SecretID', '')}")
    lines += [f"Description:      {token['Description']}", f"Local:            {str(token['Local']).lower()}"]
    if token.get("AuthMethod"):
        lines.append(f"Auth Method:      {token['AuthMethod']} (Namespace: )")
    lines.append(f"Create Time:      {show_time(token['CreateTime'])}")
    if token.get("ExpirationTime"):
        lines.append(f"Expiration Time:  {show_time(token['ExpirationTime'])}")
    if listed:
        lines.append(f"Legacy:           {str(bool(token.get('Legacy'))).lower()}")
    return lines + _meta(token, meta, 18)


def token_text(token: Json, meta: bool) -> str:
    """One token."""
    rules = ["Rules:", token["Rules"]] if token.get("Rules") else []
    return _text(token_head(token, meta) + _grants(token) + rules)


def tokens_text(tokens: list[Json], meta: bool) -> str:
    """Tokens as `token list` shows them, an empty line between them."""
    return "\n".join([_text(token_head(one, meta, listed=True) + _grants(one)) for one in tokens])


def tokens_table(tokens: list[Json]) -> Table:
    """One token a row."""
    rows = [
        [_short(one["AccessorID"]), one["Description"], grants_in_short(one), _until(one)] for one in tokens
    ]
    return Table(("Accessor", "Description", "Grants", "Expires"), rows, status=(), keep=("Accessor",))


def _until(token: Json) -> str:
    """How long it is still good for: `in 59m`."""
    import time
    from datetime import datetime

    from cli.terminal import ago

    text = str(token.get("ExpirationTime") or "")
    try:
        left = datetime.fromisoformat(text).timestamp() - time.time()
    except ValueError:
        return text
    return f"in {ago(left)}" if left > 0 else "expired"


def grants_in_short(row: Json) -> str:
    """What a token or a role gives, in one cell."""
    words = [link["Name"] for link in row.get("Policies") or ()]
    words += [f"role {link['Name']}" for link in row.get("Roles") or ()]
    words += [f"service {one['ServiceName']}" for one in row.get("ServiceIdentities") or ()]
    words += [f"node {one['NodeName']}" for one in row.get("NodeIdentities") or ()]
    for one in row.get("TemplatedPolicies") or ():
        words.append(f"{one['TemplateName']} {template_variable(one)}".rstrip())
    return ", ".join(words)


def _short(identity: str) -> str:
    from cli.terminal import width

    return identity if width() >= WIDE else identity[:8]


# policies and roles


def policy_text(policy: Json, meta: bool) -> str:
    """One policy; its rules end the text as they are."""
    return _text(
        [
            f"ID:           {policy['ID']}",
            f"Name:         {policy['Name']}",
            f"Description:  {policy['Description']}",
            f"Datacenters:  {', '.join(policy.get('Datacenters') or ())}",
            *_meta(policy, meta, 14),
            "Rules:",
        ]
    ) + str(policy.get("Rules") or "")


def policies_text(policies: list[Json], meta: bool) -> str:
    """Policies as `policy list` shows them."""
    lines = []
    for policy in policies:
        fields = [
            f"ID:           {policy['ID']}",
            f"Description:  {policy['Description']}",
            f"Datacenters:  {', '.join(policy.get('Datacenters') or ())}",
        ]
        lines += [f"{policy['Name']}:", *_indented(fields + _meta(policy, meta, 14))]
    return _text(lines)


def policies_table(policies: list[Json]) -> Table:
    """One policy a row."""
    rows = [
        [one["Name"], _short(one["ID"]), one["Description"], ", ".join(one.get("Datacenters") or ())]
        for one in policies
    ]
    return Table(("Name", "ID", "Description", "Datacenters"), rows, status=(), keep=("Name", "ID"))


def role_text(role: Json, meta: bool) -> str:
    """One role."""
    head = [f"ID:           {role['ID']}", f"Name:         {role['Name']}"]
    return _text([*head, f"Description:  {role['Description']}", *_meta(role, meta, 14), *_grants(role)])


def roles_text(roles: list[Json], meta: bool) -> str:
    """Roles as `role list` shows them."""
    lines = []
    for role in roles:
        fields = [f"ID:           {role['ID']}", f"Description:  {role['Description']}"]
        lines += [f"{role['Name']}:", *_indented(fields + _meta(role, meta, 14) + _grants(role))]
    return _text(lines)


def roles_table(roles: list[Json]) -> Table:
    """One role a row."""
    rows = [[one["Name"], _short(one["ID"]), one["Description"], grants_in_short(one)] for one in roles]
    return Table(("Name", "ID", "Description", "Grants"), rows, status=(), keep=("Name", "ID"))


# auth methods and binding rules


def method_text(method: Json, meta: bool) -> str:
    """One auth method; its configuration ends the text, as JSON."""
    import json

    fields = [("Name", method["Name"]), ("Type", method["Type"])]
    if method.get("DisplayName"):
        fields.append(("DisplayName", method["DisplayName"]))
    fields.append(("Description", method.get("Description", "")))
    fields += [(name, method[name]) for name in ("MaxTokenTTL", "TokenLocality") if method.get(name)]
    lines = [f"{name + ':':<15}{value}" for name, value in fields]
    lines += [*_meta(method, meta, 15, hashed=False), "Config:"]
    return _text(lines) + json.dumps(method.get("Config"), indent=2, ensure_ascii=False, sort_keys=True)


def methods_text(methods: list[Json], meta: bool) -> str:
    """Auth methods as `auth-method list` shows them."""
    lines = []
    for method in methods:
        fields = [f"Type:         {method['Type']}"]
        if method.get("DisplayName"):
            fields.append(f"DisplayName:  {method['DisplayName']}")
        fields.append(f"Description:  {method.get('Description', '')}")
        lines += [f"{method['Name']}:", *_indented(fields + _meta(method, meta, 14, hashed=False))]
    return _text(lines)


def methods_table(methods: list[Json]) -> Table:
    """One auth method a row."""
    rows = [
        [one["Name"], one["Type"], one.get("Description", ""), one.get("MaxTokenTTL") or ""]
        for one in methods
    ]
    return Table(("Name", "Type", "Description", "MaxTokenTTL"), rows, status=(), keep=("Name",))


def _rule_lines(rule: Json, meta: bool) -> list[str]:
    lines = [
        f"AuthMethod:   {rule['AuthMethod']}",
        f"Description:  {rule['Description']}",
        f"BindType:     {rule['BindType']}",
        f"BindName:     {rule['BindName']}",
    ]
    name = (rule.get("BindVars") or {}).get("Name")
    if name:
        lines += ["BindVars:     ", f"     - Name: {name}"]
    return [*lines, f"Selector:     {rule['Selector']}", *_meta(rule, meta, 14, hashed=False)]


def rule_text(rule: Json, meta: bool) -> str:
    """One binding rule."""
    return _text([f"ID:           {rule['ID']}", *_rule_lines(rule, meta)])


def rules_text(rules: list[Json], meta: bool) -> str:
    """Binding rules as `binding-rule list` shows them."""
    lines = []
    for rule in rules:
        lines += [f"{rule['ID']}:", *_indented(_rule_lines(rule, meta))]
    return _text(lines)


def rules_table(rules: list[Json]) -> Table:
    """One binding rule a row."""
    rows = [
        [_short(one["ID"]), one["AuthMethod"], f"{one['BindType']} {one['BindName']}", one["Selector"]]
        for one in rules
    ]
    return Table(("ID", "Method", "Binds", "Selector"), rows, status=(), keep=("ID", "Method"))
