"""`ctl kv`: read, write, delete, list. Texts are those of `consul kv` (reference/cli.md section 2)."""

from __future__ import annotations

import sys

from cli.command import Argument, Command, Failure, Flag, Usage
from cli.kvtools import COMMANDS as TOOLS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cli.call import Call
    from cli.client import Response
    from cli.output import Table


def get(call: Call) -> int:
    """`kv get`: one value, a subtree, or names."""
    key = key_of(call.argument(0))
    if call.yes("keys"):
        return _names(call, key, call.text("separator", "/"))
    if call.yes("recurse"):
        return _subtree(call, key)
    if not call.arguments:
        raise Usage("Error! Missing KEY argument")
    if not key:
        raise Usage("Error! Missing KEY argument")
    if call.yes("detailed") or call.yes("base64") or call.out.structured:
        return _one_with_details(call, key)
    response = _ask(call, key, ("raw", ""))
    if response.status == 404:
        raise _missing(key)
    call.out.write(response.body)
    if not call.yes("raw"):
        call.out.write(b"\n")
    return 0


def _one_with_details(call: Call, key: str) -> int:
    response = _ask(call, key)
    if response.status == 404:
        raise _missing(key)
    entries = response.json()
    if call.out.structured:
        call.out.document(entries)
    elif call.yes("detailed"):
        call.out.write(_details(entries[0], base64=call.yes("base64")))
    else:
        call.out.line(entries[0]["Value"] or "")
    return 0


def _subtree(call: Call, prefix: str) -> int:
    response = _ask(call, prefix, ("recurse", ""))
    entries = [] if response.status == 404 else response.json()
    if call.out.structured:
        call.out.document(entries)
        return 0
    if call.out.quiet:
        call.out.write("".join([entry["Key"] + "\n" for entry in entries]))
        return 0
    base64 = call.yes("base64")
    if call.yes("detailed"):
        call.out.write(b"\n".join([_details(entry, base64=base64) for entry in entries]))
    elif call.out.format == "table":
        from cli.terminal import clean

        table = _table(entries, clean, base64)
        call.out.show(entries, table, ())
    else:
        for entry in entries:
            call.out.write(_bytes(entry["Key"]) + b":" + _value(entry, base64=base64) + b"\n")
    return 0


def _table(entries: list[dict[str, Any]], clean: Any, base64: bool) -> Table:
    from cli.output import Table

    rows = []
    for entry in entries:
        value = _value(entry, base64=base64)
        rows.append([entry["Key"], clean(value.decode("utf-8", "replace")), str(entry["ModifyIndex"])])
    return Table(("Key", "Value", "ModifyIndex"), rows, keep=("Key",))


def _names(call: Call, prefix: str, separator: str) -> int:
    response = _ask(call, prefix, ("keys", ""), ("separator", separator))
    names = [] if response.status == 404 else response.json()
    if call.out.structured:
        call.out.document(names)
    else:
        call.out.write("".join([name + "\n" for name in names]))
    return 0


def _details(entry: dict[str, Any], *, base64: bool) -> bytes:
    value = _value(entry, base64=base64)
    session = entry.get("Session") or "-"
    label = "Value            " if value else "Value"  # Consul leaves no space at a line's end
    lines = [
        f"CreateIndex      {entry['CreateIndex']}",
        f"Flags            {entry['Flags']}",
        f"Key              {entry['Key']}",
        f"LockIndex        {entry['LockIndex']}",
        f"ModifyIndex      {entry['ModifyIndex']}",
        f"Session          {session}",
        label,
    ]
    return _bytes("\n".join(lines)) + value + b"\n"


def _value(entry: dict[str, Any], *, base64: bool) -> bytes:
    encoded: str = entry["Value"] or ""
    if base64:
        return encoded.encode("ascii")
    import binascii

    return binascii.a2b_base64(encoded)


def _ask(call: Call, key: str, *query: tuple[str, str]) -> Response:
    """A GET below /v1/kv/; anything but 200 and 404 is a failure, told without the body as Consul does."""
    from cli.client import TransportError

    response = call.get("/v1/kv/" + key, *query)
    if response.status in (200, 404):
        return response
    kind = "denied" if response.status == 403 else ""
    raise TransportError(
        f"Unexpected response code: {response.status}", kind=kind, hint=response.text.strip()
    )


def _missing(key: str) -> Failure:
    return Failure(f"Error! No key exists at: {key}", kind="missing")


def put(call: Call) -> int:
    """`kv put`: plainly, by check-and-set, or under a session."""
    key = required_key(call)
    data = read_data(call.argument(1))
    if call.yes("base64"):
        data = decode_base64(data)
    session = call.text("session")
    if (call.yes("acquire") or call.yes("release")) and not session:
        raise Usage("Error! Missing -session (required with -acquire and -release)")
    flags = call.number("flags")
    query = [("flags", str(flags))] if flags else []
    index = call.number("modify-index")
    if call.yes("cas"):
        query.append(("cas", str(index)))
        problem = "CAS failed"
        if not index:
            problem = "CAS performed with index=0 and key already exists."
        return _write(call, key, data, query, f"Error! Did not write to {key}", problem, "Data written to")
    if call.yes("acquire"):
        query.append(("acquire", session))
        return _write(call, key, data, query, "Error! Did not acquire lock", "", "Lock acquired on")
    if call.yes("release"):
        query.append(("release", session))
        return _write(call, key, data, query, "Error! Did not release lock", "", "Lock released on")
    return _write(call, key, data, query, "Error! Failed writing data", "refused", "Data written to")


def _write(
    call: Call,
    key: str,
    data: bytes,
    query: list[tuple[str, str]],
    refusal: str,
    problem: str,
    deed: str,
) -> int:
    """One PUT. A `false` answer means that the condition did not hold."""
    response = call.send("/v1/kv/" + key, *query, body=data)
    if response.body.strip() != b"true":
        raise Failure(f"{refusal}: {problem}" if problem else refusal, kind="conflict")
    call.out.done(f"Success! {deed}: {key}", {"Key": key, "Success": True})
    return 0


def delete(call: Call) -> int:
    """`kv delete`: one key or a prefix. A missing key is a success."""
    recurse, cas, index = call.yes("recurse"), call.yes("cas"), call.number("modify-index")
    if recurse and cas:
        raise Usage("Cannot specify both -cas and -recurse!")
    if not recurse:
        required_key(call)
    if cas and not index:
        raise Usage("Cannot delete a key that does not exist. Provide a -modify-index greater than than 0.")
    if index and not cas:
        raise Usage("Cannot specify -modify-index without -cas!")
    key = key_of(call.argument(0))
    query = [("recurse", "")] if recurse else []
    if cas:
        query.append(("cas", str(index)))
    from cli.client import TransportError

    try:
        response = call.client.request("DELETE", "/v1/kv/" + key, call.query(*query)).checked()
    except TransportError as error:
        what = f"Error! Did not delete prefix {key}" if recurse else f"Error deleting key {key}"
        raise error.within(what) from None
    if cas and response.body.strip() != b"true":
        raise Failure(f"Error! Did not delete key {key}: CAS failed", kind="conflict")
    deed = f"Success! Deleted keys with prefix: {key}" if recurse else f"Success! Deleted key: {key}"
    call.out.done(deed, {"Key": key, "Success": True})
    return 0


def list_keys(call: Call) -> int:
    """`kv list`: names, cut at the separator unless everything below is wanted."""
    separator = "" if call.yes("recurse") else call.text("separator", "/")
    return _names(call, key_of(call.argument(0)), separator)


def key_of(text: str) -> str:
    """A key as typed: one leading `/` is dropped, as Consul does."""
    return text[1:] if text.startswith("/") else text


def required_key(call: Call) -> str:
    key = key_of(call.argument(0))
    if not key:
        raise Usage("Error! Missing KEY argument")
    return key


def read_data(text: str) -> bytes:
    """The bytes that an argument means: `@file`, `-` for standard input, or the text itself."""
    if text == "-":
        return sys.stdin.buffer.read()
    if text.startswith("@"):
        from cli.client import reading

        try:
            with open(text[1:], "rb") as file:
                return file.read()
        except OSError as error:
            raise Failure(f"Error! Failed to read file: {reading(text[1:], error)}") from None
    return _bytes(text)


def decode_base64(data: bytes) -> bytes:
    """Strict base64. ctl refuses bad data; Consul 1.9.8 complains and writes something anyway."""
    import binascii

    compact = data.translate(None, b"\r\n")
    try:
        return binascii.a2b_base64(compact, strict_mode=True)
    except binascii.Error:
        alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
        body = compact.rstrip(b"=")
        bad = next((place for place, byte in enumerate(body) if byte not in alphabet), len(body) // 4 * 4)
        raise Failure(f"Error! Cannot base 64 decode data: illegal base64 data at input byte {bad}") from None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def export(call: Call) -> int:
    from cli.transfer import export_keys

    return export_keys(call)


def import_(call: Call) -> int:
    from cli.transfer import import_keys

    return import_keys(call)


_KEY = Argument("KEY", "The key.", missing="Error! Missing KEY argument", complete="keys")
_PREFIX = Argument("PREFIX", "Only keys that begin with this.", required=False, complete="keys")
_CAS = Flag("cas", "bool", "Only if the key's ModifyIndex is still that of -modify-index.")
_INDEX = Flag("modify-index", "uint", "ModifyIndex expected by -cas.", default="0")
_BASE64_OUT = Flag("base64", "bool", "Show values in base64.")
_SEPARATOR = Flag("separator", "string", "Where names are cut.", default="/")
_SEVERAL = "Value: text, `@FILE`, `-` for standard input; empty when left out."
_QUERYING = "Error querying Consul agent"

COMMANDS = (
    Command(
        "kv get",
        "Read a value, a subtree, or names",
        get,
        arguments=(Argument("KEY", "Key, or prefix.", required=False, complete="keys"),),
        flags=(
            _BASE64_OUT,
            Flag("detailed", "bool", "Show the indexes, flags and session too."),
            Flag("keys", "bool", "Names only."),
            Flag("recurse", "bool", "Every key that begins with KEY."),
            _SEPARATOR,
            Flag("raw", "bool", "The bytes of the value without a newline after them."),
        ),
        example=("ctl kv get redis/config/minconns", "ctl kv get -recurse redis/", "ctl kv get -keys redis/"),
        server=True,
        failure=_QUERYING,
    ),
    Command(
        "kv put",
        "Write a value",
        put,
        arguments=(_KEY, Argument("DATA", _SEVERAL, required=False, complete="files")),
        flags=(
            _CAS,
            Flag("flags", "uint", "Number to keep with the value.", default="0"),
            Flag("base64", "bool", "DATA is base64; its bytes are written."),
            _INDEX,
            Flag("session", "string", "Session for -acquire and -release."),
            Flag("acquire", "bool", "Take the lock on the key."),
            Flag("release", "bool", "Give the lock back."),
        ),
        example=(
            "ctl kv put test 'Hello World'",
            "ctl kv put config/web @web.json",
            "date | ctl kv put t -",
        ),
        server=True,
        failure="Error! Failed writing data",
        literal=1,
        surplus="Error! Too many arguments (expected 1 or {wanted}, got {given})",
    ),
    Command(
        "kv delete",
        "Delete a key or a prefix",
        delete,
        arguments=(Argument("KEY", "Key, or prefix.", required=False, complete="keys"),),
        flags=(_CAS, _INDEX, Flag("recurse", "bool", "Every key that begins with KEY.")),
        example=("ctl kv delete test", "ctl kv delete -recurse redis/"),
        server=True,
    ),
    Command(
        "kv list",
        "List names, one level at a time",
        list_keys,
        arguments=(_PREFIX,),
        flags=(_SEPARATOR, Flag("recurse", "bool", "All names below, not only the next level.")),
        example=("ctl kv list", "ctl kv list redis/config/"),
        server=True,
        failure=_QUERYING,
    ),
    Command(
        "kv export",
        "Write a subtree as JSON",
        export,
        arguments=(_PREFIX,),
        example=("ctl kv export redis/ > redis.json",),
        server=True,
        output=False,
        failure=_QUERYING,
    ),
    Command(
        "kv import",
        "Read what export wrote",
        import_,
        arguments=(Argument("DATA", "JSON text, `@FILE`, or `-`.", missing="Error! Missing DATA argument"),),
        flags=(Flag("prefix", "string", "Put every key under this prefix."),),
        example=("ctl kv import @redis.json", "ctl kv export | ctl kv import -prefix copy/ -"),
        surplus="Error! Too many arguments (expected {wanted}, got {given})",
        server=True,
        failure="Error! Failed writing data",
    ),
    *TOOLS,
)
