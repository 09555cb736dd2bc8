"""The rules of precedence as one would say them, without any speed: what the real judge is compared with."""

from __future__ import annotations

from collections.abc import Sequence

from core.acl.policy import Rule

STRENGTH = {"deny": 0, "read": 1, "list": 2, "write": 3}
FIRST = ("deny", "write", "list", "read")
BEYOND = "\x7f"  # a letter that no rule has


class Naive:
    """Scans the whole list of rules for every question."""

    def __init__(self, rules: Sequence[Rule], default: str) -> None:
        self.rules = rules
        self.default = default

    def level(self, resource: str, name: str) -> str | None:
        """The level that counts for a name, None when no rule speaks of it."""
        of_resource = [rule for rule in self.rules if rule.resource == resource]
        fitting = [rule for rule in of_resource if rule.exact and rule.name == name]
        if not fitting:
            prefixes = [rule for rule in of_resource if not rule.exact and name.startswith(rule.name)]
            longest = max((len(rule.name) for rule in prefixes), default=0)
            fitting = [rule for rule in prefixes if len(rule.name) == longest]
        levels = {rule.level for rule in fitting}
        return next((level for level in FIRST if level in levels), None)

    def allows(self, resource: str, name: str, access: str) -> bool:
        level = self.level(resource, name)
        if level is None and resource in ("mesh", "peering"):
            level = self.level("operator", "")
        if level is None:
            return self.default == "manage" or (self.default == "allow" and resource != "acl")
        return STRENGTH[level] >= STRENGTH[access]

    def names(self, resource: str) -> set[str]:
        """Names for which everything there is to be known shows."""
        names = {rule.name for rule in self.rules if rule.resource == resource}
        return names | {name + BEYOND for name in names} | {BEYOND}

    def allows_below(self, resource: str, prefix: str, access: str) -> bool:
        names = [name for name in self.names(resource) if name.startswith(prefix)]
        return all(self.allows(resource, name, access) for name in (*names, prefix + BEYOND))

    def allows_any(self, resource: str, access: str) -> bool:
        return any(self.allows(resource, name, access) for name in self.names(resource))
