"""What several policies together allow.

Of all rules that fit a name the exact one counts, else that with the longest prefix; of several for the
same name `deny` wins over `write`, that over `list`, that over `read`. Shared by all tokens with the same
policies; nothing in it changes but the notes of names that were asked before."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from core.acl.access import Access, Resource
from core.acl.policy import NAMED, UNNAMED, Policy, Rule

GRANTS = {"deny": 0, "read": 1, "list": 2, "write": 3}  # what a level grants: all that needs no more
NEEDS: dict[Access, int] = {"read": 1, "list": 2, "write": 3}
_PRECEDENCE = {"read": 0, "list": 1, "write": 2, "deny": 3}
_MAX_NOTES = 256


class Held(NamedTuple):
    """A rule that holds, and the name of its policy."""

    grants: int
    rule: Rule
    policy: str


class Names:
    """The rules of one resource."""

    __slots__ = ("_exact", "_lengths", "_notes", "_prefixes", "_sorted", "most")

    def __init__(self, exact: dict[str, Held], prefixes: dict[str, Held]) -> None:
        self._exact = exact
        self._prefixes = prefixes
        self._lengths = sorted({len(prefix) for prefix in prefixes}, reverse=True)
        self._sorted: list[str] | None = None
        self._notes: dict[str, Held | None] = {}
        every = (*exact.values(), *prefixes.values())
        self.most = max((held.grants for held in every), default=-1)  # the best that any rule grants

    def __bool__(self) -> bool:
        """Whether there are any rules."""
        return self.most >= 0

    def find(self, name: str) -> Held | None:
        """The rule that decides about `name`."""
        notes = self._notes
        if name in notes:
            return notes[name]
        held = self._exact.get(name) or self.above(name)
        if len(notes) >= _MAX_NOTES:
            notes.clear()
        notes[name] = held
        return held

    def above(self, name: str) -> Held | None:
        """The rule of the longest prefix that `name` begins with."""
        prefixes, longest = self._prefixes, len(name)
        for length in self._lengths:
            if length <= longest:
                held = prefixes.get(name[:length])
                if held is not None:
                    return held
        return None

    def below(self, prefix: str) -> Iterator[Held]:
        """All rules for names and prefixes that begin with `prefix`, it included."""
        if self._sorted is None:
            self._sorted = sorted({*self._exact, *self._prefixes})
        names = self._sorted
        for place in range(bisect_left(names, prefix), len(names)):
            name = names[place]
            if not name.startswith(prefix):
                return
            for held in (self._exact.get(name), self._prefixes.get(name)):
                if held is not None:
                    yield held


class Rights:
    """All rules of a set of policies, by resource."""

    __slots__ = ("names", "whole")

    def __init__(self, policies: Sequence[tuple[str, Policy | None]]) -> None:
        """`policies`: pairs of name and policy; of two that say the same the first one is named. None stands
        for a policy that cannot be read: the rights are then not `whole`, since it might forbid anything."""
        self.whole = all(policy is not None for _, policy in policies)
        sides: dict[tuple[str, bool], dict[str, Held]] = {}
        for name, policy in policies:
            for rule in policy.rules if policy is not None else ():
                _merge(sides, rule.resource, rule, rule.level, name)
                if rule.intentions:
                    _merge(sides, "intention", rule, rule.intentions, name)
        _derive_intentions(sides)
        self.names: dict[Resource, Names] = {
            resource: Names(sides.get((resource, True), {}), sides.get((resource, False), {}))
            for resource in (*NAMED, *UNNAMED, "acl", "intention")
        }
        for resource in ("mesh", "peering"):  # where no rule speaks of them that for operators counts
            self.names[resource] = self.names[resource] or self.names["operator"]


def _merge(
    sides: dict[tuple[str, bool], dict[str, Held]], resource: str, rule: Rule, level: str, policy: str
) -> None:
    side = sides.setdefault((resource, rule.exact), {})
    held = side.get(rule.name)
    if held is None or _PRECEDENCE[level] > _PRECEDENCE[_LEVELS[held.grants]]:
        side[rule.name] = Held(GRANTS[level], rule, policy)


def _derive_intentions(sides: dict[tuple[str, bool], dict[str, Held]]) -> None:
    """Who may see or change a service may see its intentions, unless a rule says otherwise."""
    for exact in (True, False):
        intentions = sides.setdefault(("intention", exact), {})
        for name, held in sides.get(("service", exact), {}).items():
            intentions.setdefault(name, held._replace(grants=min(held.grants, GRANTS["read"])))


_LEVELS = {grants: level for level, grants in GRANTS.items()}
