"""`ctl kv export` and `import`: keys are opaque, folder keys keep their `/`, values their bytes."""

from __future__ import annotations

import binascii
import json
import sys
from collections.abc import Iterator
from typing import Any

from cli.call import Call
from cli.client import TransportError
from cli.command import Failure
from cli.kv import decode_base64, key_of, read_data
from cli.progress import progress


def export_keys(call: Call) -> int:
    """Every key below the prefix, in Consul's form: tab indent; key, flags, value in base64."""
    prefix = key_of(call.argument(0))
    entries: list[dict[str, Any]] = []
    with progress(call, "Reading keys", unit="keys"):
        response = call.get("/v1/kv/" + prefix, ("recurse", ""))
        if response.status != 404:
            if response.status != 200:  # told without the body, as Consul does
                raise TransportError(
                    f"Unexpected response code: {response.status}", hint=response.text.strip()
                )
            entries = response.json()
    rows = [{"key": e["Key"], "flags": e["Flags"], "value": e["Value"] or ""} for e in entries]
    call.out.write(json.dumps(rows, indent="\t", ensure_ascii=False) + "\n")
    return 0


def import_keys(call: Call) -> int:
    """Write the keys of an export, one by one; every line is checked before the first write. On a terminal
    a bar and a count stand for the lines."""
    entries = _read_entries(read_data(call.argument(0)))
    done: list[str] = []
    watched = sys.stdout.isatty() and sys.stderr.isatty() and not call.out.quiet
    lines = not (call.out.structured or watched)
    try:
        with progress(
            call, "Writing", len(entries), "keys", shown=not (lines and sys.stdout.isatty())
        ) as advance:
            for target in _written(call, entries):
                done.append(target)
                advance(1)
                if lines:
                    call.out.line(target if call.out.quiet else f"Imported: {target}")
                    sys.stdout.flush()
    except Failure:
        if watched and done:
            call.out.line(f"Imported: {len(done)} of {len(entries)} keys, the last was {done[-1]}")
        raise
    if call.out.structured:
        call.out.document({"Imported": done})
    elif watched:
        call.out.line(f"Imported: {done[0]}" if len(done) == 1 else f"Imported: {len(done)} keys")
    return 0


def _written(call: Call, entries: list[tuple[str, int, bytes]]) -> Iterator[str]:
    """Each key once it is written. Failure."""
    prefix = call.text("prefix")
    for key, flags, value in entries:
        target = join(prefix, key)
        query = [("flags", str(flags))] if flags else []
        try:
            response = call.client.put("/v1/kv/" + target, call.query(*query), value).checked()
        except TransportError as error:
            raise error.within(f"Error! Failed writing data for key {target}") from None
        if response.body.strip() != b"true":
            raise Failure(f"Error! Failed writing data for key {target}: refused", kind="conflict")
        yield target


def join(prefix: str, key: str) -> str:
    """`key` under `prefix`: with one `/` between them, and not a byte of the key touched."""
    if not prefix:
        return key
    return prefix + key if prefix.endswith("/") else f"{prefix}/{key}"


def json_problem(data: bytes, error: ValueError) -> str:
    """Go's words for broken JSON, as `consul` shows them."""
    from core.codec.gojson import JsonError, decode

    try:
        decode(data)
    except JsonError as wrong:
        return "unexpected end of JSON input" if str(wrong).endswith("EOF") else str(wrong)
    return str(error)  # something follows the value


def _read_entries(data: bytes) -> list[tuple[str, int, bytes]]:
    try:
        document = json.loads(data)
    except ValueError as error:
        raise Failure(f"Cannot unmarshal data: {json_problem(data, error)}") from None
    if document is None:
        return []
    if not isinstance(document, list):
        raise Failure("Cannot unmarshal data: the document must be a list of objects")
    entries = []
    for place, item in enumerate(document):
        if not isinstance(item, dict):
            raise Failure(f"Cannot unmarshal data: entry {place} is not an object")
        fields = {str(name).lower(): value for name, value in item.items()}
        key, flags, value = fields.get("key"), fields.get("flags") or 0, fields.get("value") or ""
        if not isinstance(key, str) or not key:
            raise Failure(f"Cannot unmarshal data: entry {place} has no key")
        if not isinstance(flags, int) or isinstance(flags, bool) or not 0 <= flags < 1 << 64:
            raise Failure(f"Cannot unmarshal data: the flags of {key} are not an unsigned number")
        if not isinstance(value, str):
            raise Failure(f"Cannot unmarshal data: the value of {key} is not text")
        try:
            decoded = decode_base64(value.encode("ascii"))
        except (Failure, binascii.Error, UnicodeEncodeError) as error:
            why = str(error).removeprefix("Error! Cannot base 64 decode data: ")
            raise Failure(f"Error base 64 decoding value for key {key}: {why}") from None
        entries.append((key, flags, decoded))
    return entries
