"""Functions that ask for something: cluster data, files, the environment (reference/template.md 2).

Each notes what it asked for; while the answer is missing it yields an empty value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from core.template import deps, gofmt, gotime
from core.template.access import ANY
from core.template.errors import FunctionError
from core.template.records import (
    CatalogSnippets,
    HealthServices,
    KeyPair,
    KeyPairs,
    Nodes,
)
from core.template.render import MISSING, Pass
from core.template.values import Function, Strings


def _pair(context: Pass, text: str) -> Any:
    """The pair of a key: None if there is none, MISSING if nobody knows yet."""
    return context.lookup(deps.key(text))


def _key(context: Pass, text: str) -> str:
    """Waits until the key exists."""
    if not text:
        return ""
    found = _pair(context, text)
    if found is None:
        context.missing[deps.key(text)] = None
    return found.Value if isinstance(found, KeyPair) else ""


def _key_exists(context: Pass, text: str) -> bool:
    return bool(text) and isinstance(_pair(context, text), KeyPair)


def _key_exists_get(context: Pass, text: str) -> KeyPair | None:
    if not text:
        return None
    found = _pair(context, text)
    return found if isinstance(found, KeyPair) else KeyPair(Path=deps.key(text).path, Exists=False)


def _key_or_default(context: Pass, text: str, default: str) -> str:
    found = _pair(context, text) if text else None
    return found.Value if isinstance(found, KeyPair) and found.Value else default


def _prefix(wanted: Callable[[KeyPair], bool], safe: bool) -> Callable[[Pass, str], KeyPairs]:
    """`ls` and `tree`; the safe forms take an empty answer for a missing one."""

    def function(context: Pass, text: str) -> KeyPairs:
        if not text:
            return KeyPairs()
        dependency = deps.prefix(text)
        found = context.lookup(dependency)
        if found is MISSING:
            return KeyPairs()
        result = KeyPairs(pair for pair in found if wanted(pair))
        if safe and not result:
            context.missing[dependency] = None
        return result

    return function


def _is_child(pair: KeyPair) -> bool:
    return pair.Key != "" and "/" not in pair.Key


def _is_leaf(pair: KeyPair) -> bool:
    return pair.Key != "" and pair.Key[-1] != "/"


def _service(connect: bool) -> Callable[..., HealthServices]:
    def function(context: Pass, *texts: str) -> HealthServices:
        if not texts or not texts[0]:
            return HealthServices()
        found = context.lookup(deps.service("|".join(texts), connect))
        return HealthServices() if found is MISSING else found

    return function


def _services(context: Pass, *texts: str) -> CatalogSnippets:
    found = context.lookup(deps.services("".join(texts)))
    return CatalogSnippets() if found is MISSING else found


def _node(context: Pass, *texts: str) -> Any:
    found = context.lookup(deps.node("".join(texts)))
    return None if found is MISSING else found


def _nodes(context: Pass, *texts: str) -> Nodes:
    found = context.lookup(deps.nodes("".join(texts)))
    return Nodes() if found is MISSING else found


def _datacenters(context: Pass, *reachable: bool) -> Strings:
    if len(reachable) > 1:
        raise FunctionError(
            f"datacenters: wrong number of arguments, expected 0 or 1, but got {len(reachable)}"
        )
    found = context.lookup(deps.DatacentersDep(any(reachable)))
    return Strings() if found is MISSING else found


def _file(context: Pass, path: str) -> str:
    if not path:
        return ""
    if context.environment.check_path is not None:
        context.environment.check_path(path)
    found = context.lookup(deps.FileDep(path))
    if found is None:
        context.missing[deps.FileDep(path)] = None
    return found if isinstance(found, str) else ""


# --- surroundings ---------------------------------------------------------------------------------


def _env(context: Pass, name: str) -> str:
    return context.environment.variables.get(name, "")


def _must_env(context: Pass, name: str) -> str:
    value = context.environment.variables.get(name, "")
    if not value:
        raise FunctionError(f"required environment variable {name} is empty")
    return value


def _env_or_default(context: Pass, name: str, default: str) -> str:
    return context.environment.variables.get(name, default)


def _timestamp(context: Pass, *layout: str) -> str:
    if len(layout) > 1:
        raise FunctionError(f"timestamp: wrong number of arguments, expected 0 or 1, but got {len(layout)}")
    if layout == ("unix",):
        return str(int(context.environment.now))
    return gotime.show(context.environment.now, layout[0] if layout else gotime.RFC3339)


def _plugin(context: Pass, name: str, *args: str) -> str:
    if not name:
        return ""
    if context.environment.run_plugin is None:
        raise FunctionError("no programs may be run here")
    given = [arg.strip() for arg in args]
    return context.environment.run_plugin(name, [arg for arg in given if arg]).strip()


def _write_to_file(context: Pass, path: str, user: str, group: str, perms: str, *rest: str) -> str:
    if not 1 <= len(rest) <= 2:
        raise FunctionError(
            "wrong number of arguments: want path, user, group, permissions, [flags,] content"
        )
    if context.environment.write_file is None:
        raise FunctionError("no files may be written here")
    flags = rest[0] if len(rest) == 2 else ""
    try:
        mode = int(perms, 8) if perms.isascii() and perms.isdigit() else -1
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o7777:
        raise FunctionError(f'the permissions "{perms}" are no octal number such as 0644')
    if not context.missing:  # only what a complete pass says is for others to see
        context.environment.write_file(path, user, group, perms, flags, rest[-1])
    return ""


def _socket_address(context: Pass, *words: str) -> str:
    if context.environment.socket_address is None:
        raise FunctionError("the addresses of this machine are not known here")
    return context.environment.socket_address(f"{{{{ {' '.join(words)} }}}}")


def _execute_template(context: Pass, name: str, *data: Any) -> str:
    if len(data) > 1:
        wrong = f"wrong number of arguments, expected 1 or 2, but got {len(data) + 1}"
        raise FunctionError(f"executeTemplate: {wrong}")
    return context.nested(name, data[0] if data else None)


def _dump(values: tuple[Any, ...]) -> str:
    return "".join(f"({gofmt.sprintf('%T', [value])}) {gofmt.sprintf('%#v', [value])}\n" for value in values)


def _spew_dump(context: Pass, *values: Any) -> str:
    context.notes.append(_dump(values))
    return ""


def _spew_printf(context: Pass, form: str, *values: Any) -> str:
    context.notes.append(gofmt.sprintf(form, list(values)))
    return ""


# --- what there is not ----------------------------------------------------------------------------


def _unsupported(sentence: str) -> Function:
    def function(*values: Any) -> Any:
        raise FunctionError(sentence)

    return Function((), ANY, function)


_VAULT = "vault is not supported: keep the secret in a file for `file`, or in the environment for `env`"
_NOMAD = "nomad is not supported: register the service with the agent and use `service`, or use `key`"
_MESH = "the certificate authority of the service mesh is not supported"
_ENTERPRISE = "partitions and peerings are not supported"
_NOT_THERE = {
    **dict.fromkeys(("secret", "secrets", "pkiCert", "pkiSign"), _VAULT),
    **dict.fromkeys(("nomadService", "nomadServices", "nomadVar", "nomadVarExists"), _NOMAD),
    **dict.fromkeys(("nomadVarList", "nomadVarListSafe"), _NOMAD),
    **dict.fromkeys(("caRoots", "caLeaf", "intentions"), _MESH),
    **dict.fromkeys(("partitions", "peerings", "exportedServices", "importedServices"), _ENTERPRISE),
}


def _asks(call: Callable[..., Any], *params: str, rest: str | None = None) -> Function:
    return Function(params, rest, call, contextual=True)


CLUSTER: Mapping[str, Function] = {
    "key": _asks(_key, "string"),
    "keyExists": _asks(_key_exists, "string"),
    "keyExistsGet": _asks(_key_exists_get, "string"),
    "keyOrDefault": _asks(_key_or_default, "string", "string"),
    "ls": _asks(_prefix(_is_child, safe=False), "string"),
    "safeLs": _asks(_prefix(_is_child, safe=True), "string"),
    "tree": _asks(_prefix(_is_leaf, safe=False), "string"),
    "safeTree": _asks(_prefix(_is_leaf, safe=True), "string"),
    "service": _asks(_service(connect=False), rest="string"),
    "connect": _asks(_service(connect=True), rest="string"),
    "services": _asks(_services, rest="string"),
    "node": _asks(_node, rest="string"),
    "nodes": _asks(_nodes, rest="string"),
    "datacenters": _asks(_datacenters, rest="bool"),
    "file": _asks(_file, "string"),
    "env": _asks(_env, "string"),
    "mustEnv": _asks(_must_env, "string"),
    "envOrDefault": _asks(_env_or_default, "string", "string"),
    "timestamp": _asks(_timestamp, rest="string"),
    "plugin": _asks(_plugin, "string", rest="string"),
    "writeToFile": _asks(_write_to_file, "string", "string", "string", "string", rest="string"),
    "sockaddr": _asks(_socket_address, rest="string"),
    "executeTemplate": _asks(_execute_template, "string", rest=ANY),
    "scratch": _asks(lambda context: context.scratch),
    "spew_dump": _asks(_spew_dump, rest=ANY),
    "spew_printf": _asks(_spew_printf, "string", rest=ANY),
    "spew_sdump": Function((), ANY, lambda *values: _dump(values)),
    "spew_sprintf": Function(("string",), ANY, lambda form, *values: gofmt.sprintf(form, list(values))),
    **{name: _unsupported(sentence) for name, sentence in _NOT_THERE.items()},
}
"""The functions of this file by name."""
