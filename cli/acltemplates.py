"""`ctl acl templated-policy`, and the flags that put templated policies on tokens and roles."""

from __future__ import annotations

from cli.aclcommon import (
    META,
    Saying,
    acl_command,
    post,
    quoted,
    read_file,
    read_or_none,
    show_many,
    show_one,
)
from cli.command import Failure, Flag, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cli.call import Call

    Json = dict[str, Any]

_BLOCKS = ("templatedpolicy", "templatedpolicies", "templated_policy", "templated_policies")


def templated_policies(call: Call, name_flag: str, file_flag: str) -> list[Json]:
    """The templated policies that the flags mean: one by name and -var, or those of a file."""
    name, path = call.text(name_flag), call.text(file_flag)
    if name and path:
        raise Usage(f"Cannot combine -{name_flag} with -{file_flag}")
    if path:
        return _of_file(path)
    if not name:
        return []
    found: Json = {"TemplateName": name}
    if call.many("var"):
        found["TemplateVariables"] = _variables(call.many("var"))
    return [found]


def _variables(texts: list[str]) -> Json:
    """`name:web` as the API has it. The builtin templates know one variable, the name."""
    variables = {}
    for text in texts:
        key, colon, value = text.partition(":")
        if not colon:
            raise Usage(f"Malformed -var argument: {quoted(text)}", hint="It is name:VALUE.")
        if key.lower() != "name":
            raise Usage(f"No template has the variable {quoted(key)}; there is `name` only")
        variables["Name"] = value
    return variables


def _of_file(path: str) -> list[Json]:
    """`TemplatedPolicy "builtin/service" { Name = "web" }` blocks, HCL or JSON."""
    from core.codec.hcl import HclError, parse

    what = "Error reading templated policies"
    try:
        values = parse(read_file(path, what).decode())
    except (HclError, UnicodeDecodeError) as error:
        raise Failure(f"{what}: {path}: {error}") from None
    found = []
    for word, blocks in values.items():
        if word.lower() not in _BLOCKS:
            raise Failure(f"{what}: {path}: unknown word {quoted(word)}; it is TemplatedPolicy")
        for block in _objects(blocks, path):
            for name, bodies in block.items():
                found += [_of_block(name, body, path) for body in _objects(bodies, path)]
    if not found:
        raise Failure(f"{what}: {path} has no TemplatedPolicy block")
    return found


def _objects(value: Any, path: str) -> list[Json]:
    objects = value if isinstance(value, list) else [value]
    if all(isinstance(one, dict) for one in objects):
        return objects
    raise Failure(f'Error reading templated policies: {path}: it is TemplatedPolicy "NAME" {{ ... }}')


def _of_block(name: str, body: Json, path: str) -> Json:
    found: Json = {"TemplateName": name}
    for field, value in body.items():
        if field.lower() == "name" and isinstance(value, str):
            found["TemplateVariables"] = {"Name": value}
        elif field.lower() == "datacenters" and isinstance(value, list):
            found["Datacenters"] = value
        else:
            text = f"{path}: {name}: only Name (text) and Datacenters (a list) may stand there, not {field}"
            raise Failure(f"Error reading templated policies: {text}")
    return found


def change_templates(call: Call, owner: Json) -> None:
    """Do to a token or a role what the append and replace flags say."""
    new = templated_policies(call, "replace-templated-policy", "replace-templated-policy-file")
    more = templated_policies(call, "append-templated-policy", "append-templated-policy-file")
    if new and more:
        raise Usage(
            "Cannot combine the -append-templated-policy flags with the -replace-templated-policy flags"
        )
    if new or more:
        owner["TemplatedPolicies"] = new or [*(owner.get("TemplatedPolicies") or []), *more]


# the commands


def list_templates(call: Call) -> int:
    """`templated-policy list`."""
    from cli.output import Table

    found = call.fetch("/v1/acl/templated-policies")
    names = sorted(found)
    if call.out.structured:
        call.out.document(found)
        return 0
    rows = [[name, found[name].get("Description", "")] for name in names]
    table = Table(("Name", "Description"), rows, keep=("Name",))
    show_many(call, [], "".join([name + "\n" for name in names]), table, names)
    return 0


def read_template(call: Call) -> int:
    """`templated-policy read`."""
    name = call.text("name")
    if not name:
        raise Usage("Must specify the -name parameter")
    with Saying(f'Error reading templated policy "{name}"'):
        template = read_or_none(call, f"/v1/acl/templated-policy/name/{name}")
    if template is None:
        raise Failure(f'Templated policy not found with name "{name}"', kind="missing")
    show_one(call, template, _template_text(template, call), name)
    return 0


def _template_text(template: Json, call: Call) -> str:
    name, schema = template["TemplateName"], template.get("Schema") or ""
    lines = [f"Name:            {name}"]
    if template.get("Description"):
        lines.append(f"Description:     {template['Description']}")
    usage = f"{call.name} acl token create -templated-policy {name}"
    if '"name"' in schema.lower():
        lines += ["Input variables:", f"\tName: String - Required - The name of the {_named(name)}."]
        usage += " -var name:" + ("node-1" if _named(name) == "node" else "api")
    else:
        lines.append("Input variables: None")
    lines += ["Example usage:", "\t" + usage]
    if call.yes("meta"):
        if schema:
            lines += ["Schema:", schema, ""]
        lines += ["Raw Template:", template["Template"]]
    return "\n".join(lines) + "\n"


def _named(template: str) -> str:
    return "node" if template == "builtin/node" else "service"


def preview(call: Call) -> int:
    """`templated-policy preview`: the policy that a template gives."""
    from cli.aclview import policy_text

    if not call.text("name") and not call.text("file"):
        raise Usage("Cannot preview a templated policy without specifying -name or -file")
    found = templated_policies(call, "name", "file")
    if len(found) != 1:
        raise Usage("Can only preview a single templated policy at a time.")
    with Saying("Failed to generate the templated policy preview"):
        path = f"/v1/acl/templated-policy/preview/{found[0]['TemplateName']}"
        policy = post(call, path, found[0].get("TemplateVariables", {})).json()
    show_one(call, policy, policy_text(policy, meta=False), policy["Name"])
    return 0


_VAR = Flag("var", "list", "Variable of the template, name:VALUE (repeat).")
_NAMES = "acl-templates"
TEMPLATES = (
    Flag("templated-policy", "string", "Templated policy, filled by -var.", complete=_NAMES),
    Flag("templated-policy-file", "string", "File with templated policies.", complete="files"),
    _VAR,
)
TEMPLATE_CHANGES = (
    Flag("append-templated-policy", "string", "Templated policy to add.", complete=_NAMES),
    Flag("append-templated-policy-file", "string", "File with those to add.", complete="files"),
    Flag("replace-templated-policy", "string", "Templated policy to have instead.", complete=_NAMES),
    Flag("replace-templated-policy-file", "string", "File with those to have instead.", complete="files"),
    _VAR,
)
_NAME = Flag("name", "string", "Name of the template.", complete=_NAMES)

COMMANDS = (
    acl_command(
        "acl templated-policy list",
        "List the templates of policies",
        list_templates,
        example=("ctl acl templated-policy list",),
        failure="Failed to retrieve the templated policies list",
    ),
    acl_command(
        "acl templated-policy read",
        "Show a template and its variables",
        read_template,
        flags=(_NAME, META),
        example=("ctl acl templated-policy read -name=builtin/service -meta",),
    ),
    acl_command(
        "acl templated-policy preview",
        "Show the policy that a template gives",
        preview,
        flags=(_NAME, _VAR, Flag("file", "string", "File with one templated policy.", complete="files")),
        example=(
            "ctl acl templated-policy preview -name=builtin/service -var=name:api",
            "ctl acl templated-policy preview -file=api.hcl",
        ),
    ),
)
