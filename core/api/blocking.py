"""How a read may be answered: consistency, blocking, datacenter, as Consul's HTTP API has them."""

from __future__ import annotations

import random

from core.api.endpoint import QueryOptions, Request
from core.codec import duration
from core.errors import BadRequest

MAX_WAIT = 600 * duration.SECOND
DEFAULT_WAIT = 300 * duration.SECOND
_MAX_U64 = (1 << 64) - 1


def query_options(request: Request) -> QueryOptions:
    """Parse `index`, `wait`, `stale`, `consistent`, `cached`, `dc`, `filter`; BadRequest if wrong."""
    query = request.query
    options = QueryOptions(token=request.token)
    if query.empty:
        return options
    wait = query.get("wait")
    if wait:
        try:
            options.max_query_time = duration.parse(wait)
        except ValueError:
            raise BadRequest("Invalid wait time") from None
    index = query.get("index")
    if index:
        options.min_query_index = parse_index(index)
    options.allow_stale = query.has("stale")
    options.require_consistent = query.has("consistent")
    options.use_cache = query.has("cached")
    max_stale = query.get("max_stale")
    if max_stale:
        try:
            options.max_stale_duration = duration.parse(max_stale)
        except ValueError:
            raise BadRequest(f"Invalid max_stale value {duration.quote(max_stale)}") from None
        options.allow_stale = True
    if options.allow_stale and options.require_consistent:
        raise BadRequest("Cannot specify ?stale with ?consistent, conflicting semantics.")
    if options.use_cache and options.require_consistent:
        raise BadRequest("Cannot specify ?cached with ?consistent, conflicting semantics.")
    options.datacenter = query.get("dc")
    options.filter = query.get("filter")
    return options


def parse_index(text: str) -> int:
    """An X-Consul-Index that a client sent back: an unsigned 64-bit decimal. BadRequest otherwise."""
    if not (text.isascii() and text.isdigit()) or int(text) > _MAX_U64:
        raise BadRequest("Invalid index")
    return int(text)


def parse_uint(text: str) -> int:
    """strconv.ParseUint(text, 10, 64). ValueError carries Go's text."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"strconv.ParseUint: parsing {duration.quote(text)}: invalid syntax")
    if len(text) > 20 or int(text) > _MAX_U64:
        raise ValueError(f"strconv.ParseUint: parsing {duration.quote(text)}: value out of range")
    return int(text)


def wait_seconds(options: QueryOptions, chance: random.Random, default: int, longest: int) -> float:
    """How long a blocking query waits: the asked time, capped, plus up to a sixteenth so that many
    clients that started together do not come back together. `default`, `longest` in ns."""
    asked = options.max_query_time
    if asked <= 0:
        asked = default if asked == 0 else 1
    asked = min(asked, longest)
    return (asked + chance.random() * asked / 16) / duration.SECOND


def node_meta(request: Request) -> dict[str, str]:
    """The `node-meta=key:value` filters; a repeated key keeps its last value, as in Consul."""
    wanted: dict[str, str] = {}
    for pair in request.query.all("node-meta"):
        key, _, value = pair.partition(":")
        wanted[key] = value
    return wanted
