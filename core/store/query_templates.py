"""Templates of prepared queries: one stored query that answers for every name that begins like its own.

    ${name.full}  ${name.prefix}  ${name.suffix}     the name asked for, in whole and in parts
    ${match(N)}                                      a group of the template's regular expression
    ${agent.segment}                                 the network segment of the agent that asks
    $${                                              ${ itself

They stand in any text of the query's `Service`. The state machine refuses what cannot be rendered, so that
all servers refuse it alike."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from msgspec.structs import replace

from core.codec import regex_groups
from core.codec.regex import RegexError
from core.errors import Invalid
from core.store.structs import PreparedQuery, ServiceQuery

NAME_PREFIX_MATCH = "name_prefix_match"
_VARIABLES = ("name.full", "name.prefix", "name.suffix", "agent.segment")
_MAX_PATTERNS = 256

# A template's text: pieces that stand for themselves, and what ${...} asks for.
_Pieces = list[str | int | tuple[str]]
_Matches = Callable[[str], list[str] | None]


def check(query: PreparedQuery) -> None:
    """Refuse a template that cannot be rendered; queries that are none pass. Invalid."""
    template = query.template
    if not template.type:
        return
    if template.type != NAME_PREFIX_MATCH:
        raise Invalid(f"Bad Template.Type '{template.type}'")
    _texts(query.service, _checked)
    if template.regexp:
        try:
            _compiled(template.regexp)
        except RegexError as error:
            raise Invalid(f"Bad Regexp: {error}") from None


def render(query: PreparedQuery, name: str, segment: str = "") -> PreparedQuery:
    """The query that a template makes of the `name` asked for; what is no template stays as it is. Invalid
    when it cannot be rendered, which only a snapshot of another version can hold."""
    template = query.template
    if not template.type:
        return query
    check(query)
    values = {
        "name.full": name,
        "name.prefix": query.name,
        "name.suffix": name.removeprefix(query.name),
        "agent.segment": segment,
    }
    groups = _compiled(template.regexp)(name) or [] if template.regexp else []

    def filled(text: str, where: str) -> str:
        parts = []
        for piece in _pieces(text, where):
            if isinstance(piece, tuple):
                parts.append(values[piece[0]])
            elif isinstance(piece, int):
                parts.append(groups[piece] if piece < len(groups) else "")
            else:
                parts.append(piece)
        return "".join(parts)

    service = _texts(query.service, filled)
    if template.remove_empty_tags:
        service = replace(service, tags=[tag for tag in service.tags or () if tag])
    return replace(query, service=service)


@lru_cache(_MAX_PATTERNS)
def _compiled(pattern: str) -> _Matches:
    return regex_groups.compile(pattern)


def _texts(service: ServiceQuery, change: Callable[[str, str], str]) -> ServiceQuery:
    """The same with every text changed; `change` hears where the text stands, too."""

    def listed(items: list[str] | None, where: str) -> list[str] | None:
        return items and [change(item, f"{where}[{at}]") for at, item in enumerate(items)]

    def mapped(items: dict[str, str] | None, where: str) -> dict[str, str] | None:
        return items and {key: change(items[key], f"{where}[{key}]") for key in items}

    failover = service.failover
    targets = failover.targets and [
        replace(target, datacenter=change(target.datacenter, f".Failover.Targets[{at}].Datacenter"))
        for at, target in enumerate(failover.targets)
    ]
    datacenters = listed(failover.datacenters, ".Failover.Datacenters")
    return replace(
        service,
        service=change(service.service, ".Service"),
        failover=replace(failover, datacenters=datacenters, targets=targets),
        ignore_check_ids=listed(service.ignore_check_ids, ".IgnoreCheckIDs"),
        near=change(service.near, ".Near"),
        tags=listed(service.tags, ".Tags"),
        node_meta=mapped(service.node_meta, ".NodeMeta"),
        service_meta=mapped(service.service_meta, ".ServiceMeta"),
    )


def _checked(text: str, where: str) -> str:
    _pieces(text, where)
    return text


def _pieces(text: str, where: str) -> _Pieces:
    """A text taken apart. Invalid, with the text and where it stands."""
    pieces: _Pieces = []
    at = 0
    while True:
        start = text.find("${", at)
        if start < 0:
            return [*pieces, text[at:]]
        if start > at and text[start - 1] == "$":
            pieces.append(text[at : start - 1] + "${")
            at = start + 2
            continue
        end = text.find("}", start)
        if end < 0:
            raise _bad(text, where, "expected } behind ${")
        pieces.append(text[at:start])
        pieces.append(_asked(text[start + 2 : end].strip(), text, where))
        at = end + 1


def _asked(inside: str, text: str, where: str) -> int | tuple[str]:
    """The number of a group, or the name of a variable."""
    if inside in _VARIABLES:
        return (inside,)
    word, opening, rest = inside.partition("(")
    number = rest.removesuffix(")").strip()
    if word.strip() == "match" and opening and rest.endswith(")") and number.isascii() and number.isdigit():
        return int(number[:9])
    known = ", ".join((*_VARIABLES, "match(N)"))
    raise _bad(text, where, f"unknown expression {inside!r}, there are {known}")


def _bad(text: str, where: str, why: str) -> Invalid:
    return Invalid(f"Bad format '{text}' in Service{where}: {why}")
