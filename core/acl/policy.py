"""The rule language: what a policy says, from HCL or JSON to rules.

    key_prefix "web/" { policy = "write" }       exact rules without `_prefix`
    service "web" { policy = "read" intentions = "write" }
    operator = "read"                            resources without names

Unknown words are ignored, as Consul does, so that a policy written for a newer version can be stored;
`Policy.ignored` has them for whoever wants to warn. Error texts begin as Consul's do."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal, NamedTuple

from core.acl.access import Resource
from core.codec import hcl
from core.codec.duration import quote
from core.errors import Invalid

Level = Literal["deny", "read", "list", "write"]
CURRENT, LEGACY = 0, 1  # ACLPolicy.syntax

# In the order in which Consul checks them, so that the first mistake it names is the first one named here.
NAMED: tuple[Resource, ...] = ("agent", "key", "node", "service", "session", "event", "query")
UNNAMED: tuple[Resource, ...] = ("keyring", "operator", "mesh", "peering")
_LEVELS = ("deny", "read", "write")
_KEY_LEVELS = ("deny", "read", "list", "write")
_MAX_RULES = 65536  # bytes; longer texts are parsed anew each time


class Rule(NamedTuple):
    """One rule. `intentions` only with services, "" where the rule does not speak of them."""

    resource: Resource
    name: str
    exact: bool
    level: Level
    intentions: Level | Literal[""] = ""

    def __str__(self) -> str:
        """The rule as it would be written."""
        if self.resource in UNNAMED or self.resource == "acl":
            return f"{self.resource} = {quote(self.level)}"
        word = self.resource if self.exact else f"{self.resource}_prefix"
        intentions = f" intentions = {quote(self.intentions)}" if self.intentions else ""
        return f"{word} {quote(self.name)} {{ policy = {quote(self.level)}{intentions} }}"


class Policy(NamedTuple):
    """What one policy says, in the order it is checked; `ignored`: words that mean nothing here."""

    rules: tuple[Rule, ...] = ()
    ignored: tuple[str, ...] = ()


def parse(text: str, syntax: int = CURRENT) -> Policy:
    """The rules in `text`. Invalid, with Consul's words, when there is a mistake in it."""
    return _remembered(text, syntax) if len(text) <= _MAX_RULES else _parse(text, syntax)


def parse_tree(text: str) -> dict[str, Any]:
    """The value of rules in HCL or JSON. Invalid."""
    try:
        return hcl.parse(text)
    except hcl.HclError as error:
        raise _unparsable(str(error)) from None


@lru_cache(maxsize=1024)
def _remembered(text: str, syntax: int) -> Policy:
    return _parse(text, syntax)


def _parse(text: str, syntax: int) -> Policy:
    if not text.strip():
        return Policy()
    values: dict[str, Any] = {}
    for word, value in parse_tree(text).items():
        values.setdefault(word.lower(), []).append((word, value))
    return _legacy(values) if syntax == LEGACY else _current(values)


def _current(values: dict[str, Any]) -> Policy:
    rules = _unnamed(values, "acl")
    for resource in NAMED:
        for exact, suffix in ((True, ""), (False, "_prefix")):
            rules += _named(values, resource + suffix, resource, exact)
    for resource in UNNAMED:
        rules += _unnamed(values, resource)
    return Policy(tuple(rules), tuple(word for pairs in values.values() for word, _ in pairs))


def _legacy(values: dict[str, Any]) -> Policy:
    """Rules of the old ACL system: all names are prefixes."""
    rules: list[Rule] = []
    for resource in NAMED:
        rules += _named(values, resource, resource, exact=False)
    for unnamed in ("keyring", "operator"):
        rules += _unnamed(values, unnamed)
    return Policy(tuple(rules), tuple(word for pairs in values.values() for word, _ in pairs))


def _unnamed(values: dict[str, Any], resource: Resource) -> list[Rule]:
    rules = []
    for word, value in values.pop(resource, ()):
        level = _text(word, value)
        if level:  # empty is allowed and says nothing
            rules.append(Rule(resource, "", True, _level(resource, word, level, "")))
    return rules


def _named(values: dict[str, Any], word: str, resource: Resource, exact: bool) -> list[Rule]:
    rules = []
    for written, value in values.pop(word, ()):
        for name, fields in _blocks(written, value):
            rules.append(_rule(word, resource, exact, name, fields))
    return rules


def _blocks(word: str, value: Any) -> list[tuple[str, dict[str, Any]]]:
    """The named blocks under a word: (name, fields); `word "a" { }` and `word "a" { }` are two of them."""
    found = []
    for item in value if isinstance(value, list) else (value,):
        if not isinstance(item, dict):
            raise _unparsable(f'{word}: a rule names what it is for: {word} "NAME" {{ policy = "read" }}')
        for name, bodies in item.items():
            for body in bodies if isinstance(bodies, list) else (bodies,):
                if not isinstance(body, dict):
                    example = f'{word} "NAME" {{ policy = "read" }}'
                    raise _unparsable(f"{word}: {quote(name)} is no block; rules look like {example}")
                found.append((name, {field.lower(): value for field, value in body.items()}))
    return found


def _rule(word: str, resource: Resource, exact: bool, name: str, fields: dict[str, Any]) -> Rule:
    where = f" in {word} {quote(name)}"
    level = _level(resource, word, _text(word, fields.get("policy", "")), where)
    intentions: Level | Literal[""] = ""
    if resource == "service" and (wanted := _text(word, fields.get("intentions", ""))):
        intentions = _level("intention", f"{word} intentions", wanted, where)
    return Rule(resource, name, exact, level, intentions)


def _text(word: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)  # the decoder is as lenient; no number is a level
    raise _unparsable(f"{word}: text is needed")


def _level(resource: Resource, word: str, level: str, where: str) -> Level:
    levels = _KEY_LEVELS if resource == "key" else _LEVELS
    for known in levels:
        if level == known:
            return known  # type: ignore[return-value]
    choice = f"{', '.join(levels[:-1])} or {levels[-1]}"
    raise Invalid(f"Invalid {word} policy: {quote(level)}{where}; it must be {choice}")


def _unparsable(what: str) -> Invalid:
    return Invalid(f"Failed to parse ACL rules: {what}")
