"""The rule language: what a policy says, from HCL or JSON to rules.

    key_prefix "web/" { policy = "write" }       exact rules without `_prefix`
    service "web" { policy = "read" intentions = "write" }
    operator = "read"                            resources without names

Unknown words are ignored, as Consul does, so that a policy written for a newer version can be stored;
`Policy.ignored` has them for whoever wants to warn. Error texts begin as Consul's do."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from core.acl.access import Resource
from core.acl.rule_tree import tree
from core.codec.duration import quote
from core.codec.hcl import HclError, Item, Objects, text_of
from core.codec.hcl_scan import Token
from core.errors import Invalid

Level = Literal["deny", "read", "list", "write"]
CURRENT, LEGACY = 0, 1  # ACLPolicy.syntax

# In the order in which Consul checks them, so that the first mistake it names is the first one named here.
NAMED: tuple[Resource, ...] = ("agent", "key", "node", "service", "session", "event", "query")
UNNAMED: tuple[Resource, ...] = ("keyring", "operator", "mesh", "peering")
_LEVELS = ("deny", "read", "write")
_KEY_LEVELS = ("deny", "read", "list", "write")
_TEXTS = frozenset({"STRING", "HEREDOC", "TEXT", "NUMBER"})  # no number is a level, but it is asked of all
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


@lru_cache(maxsize=1024)
def _remembered(text: str, syntax: int) -> Policy:
    return _parse(text, syntax)


def _parse(text: str, syntax: int) -> Policy:
    try:
        words = _Words(tree(text))
        return _legacy(words) if syntax == LEGACY else _current(words)
    except HclError as error:
        raise Invalid(f"Failed to parse ACL rules: {error}") from None


class _Words:
    """The items of a text by their first key, which is a word whatever its case."""

    def __init__(self, items: Objects) -> None:
        self._items: dict[str, list[Item]] = {}
        for item in items:
            self._items.setdefault(text_of(item.keys[0]).casefold(), []).append(item)

    def take(self, word: str) -> list[Item]:
        """The items under a word, without it."""
        return [Item(item.keys[1:], item.value) for item in self._items.pop(word, ())]

    def left(self) -> tuple[str, ...]:
        """The words that nobody took, as they are written."""
        return tuple(text_of(item.keys[0]) for items in self._items.values() for item in items)


def _current(words: _Words) -> Policy:
    rules = _unnamed(words, "acl")
    for resource in NAMED:
        for exact, suffix in ((True, ""), (False, "_prefix")):
            rules += _named(words, resource + suffix, resource, exact)
    for resource in UNNAMED:
        rules += _unnamed(words, resource)
    return Policy(tuple(rules), words.left())


def _legacy(words: _Words) -> Policy:
    """Rules of the old ACL system: all names are prefixes."""
    rules: list[Rule] = []
    for resource in NAMED:
        rules += _named(words, resource, resource, exact=False)
    for unnamed in ("keyring", "operator"):
        rules += _unnamed(words, unnamed)
    return Policy(tuple(rules), words.left())


def _unnamed(words: _Words, resource: Resource) -> list[Rule]:
    text = _text(resource, words.take(resource))
    if not text:  # empty is allowed and says nothing
        return []
    level = _level(resource, resource, text, "")
    if level not in (text, "deny"):  # `operator = "Write"` is taken and grants nothing
        return []
    return [Rule(resource, "", True, level)]


def _named(words: _Words, word: str, resource: Resource, exact: bool) -> list[Rule]:
    return [_rule(word, resource, exact, name, fields) for name, fields in _blocks(word, words.take(word))]


def _blocks(word: str, items: list[Item]) -> Iterator[tuple[str, _Words]]:
    """The named blocks under a word. Those with their name before the brace come first; what is within the
    braces of a block without one has names as well: `key { "a" { policy = "read" } }`, and even in
    `key { policy = "read" }` the name is "policy", as the decoder has it."""
    example = f'rules look like {word} "NAME" {{ policy = "read" }}'
    named = [item for item in items if item.keys]
    for item in items:
        if not item.keys and item.value != []:
            if not isinstance(item.value, Objects):
                raise HclError(f"{word}: a rule names what it is for: {example}")
            named += item.value
    for item in named:
        value: Any = item.value
        if len(item.keys) == 2:
            value = Objects([Item(item.keys[1:], value)])
        elif isinstance(value, Token):
            value = Objects([Item(item.keys[:1], value)])
        if not isinstance(value, Objects):
            raise HclError(f"{word}: {quote(text_of(item.keys[0]))} is no block; {example}")
        yield text_of(item.keys[0]), _Words(value)


def _rule(word: str, resource: Resource, exact: bool, name: str, fields: _Words) -> Rule:
    where = f" in {word} {quote(name)}"
    level = _level(resource, word, _text(word, fields.take("policy")), where)
    intentions: Level | Literal[""] = ""
    if resource == "service" and (wanted := _text(word, fields.take("intentions"))):
        intentions = _level("intention", f"{word} intentions", wanted, where)
    return Rule(resource, name, exact, level, intentions)


def _text(word: str, items: list[Item]) -> str:
    """The text that the last of the items gives a word, "" when there is none."""
    text = ""
    for item in items:
        if item.keys or not isinstance(item.value, Token) or item.value.kind not in _TEXTS:
            raise HclError(f"{word}: text is needed")
        text = text_of(item.value)
    return text


def _level(resource: Resource, word: str, level: str, where: str) -> Level:
    levels = _KEY_LEVELS if resource == "key" else _LEVELS
    for known in levels:
        if level.lower() == known:
            return known  # type: ignore[return-value]
    choice = f"{', '.join(levels[:-1])} or {levels[-1]}"
    raise Invalid(f"Invalid {word} policy: {quote(level)}{where}; it must be {choice}")
