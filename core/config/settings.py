"""A loaded configuration: every option's value, and what the files define beside options."""

from __future__ import annotations

from typing import Any

from core.node.definitions import CheckDefinition, ServiceDefinition


class Config:
    """All options with defaults filled in: `config["dns_config.only_passing"]`.

    Durations are nanoseconds, ports that are off are -1, lists and maps are never None. A key that no
    row of `options` has is a KeyError. A Config does not change once it is loaded."""

    __slots__ = ("checks", "dev", "given", "problems", "services", "values", "warnings", "watches")

    def __init__(
        self,
        values: dict[str, Any],
        *,
        dev: bool = False,
        given: dict[str, str] | None = None,
        services: list[ServiceDefinition] | None = None,
        checks: list[CheckDefinition] | None = None,
        watches: list[dict[str, Any]] | None = None,
        warnings: list[str] | None = None,
        problems: list[str] | None = None,
    ) -> None:
        self.values = values
        self.dev = dev
        """Whether `-dev` was given: nothing is kept on disk."""
        self.given = given or {}
        """The keys that somebody set, and the source that had the last word."""
        self.services = services or []
        self.checks = checks or []
        """Checks outside of services; those with a `service_id` are bound to that service."""
        self.watches = watches or []
        """Watches as they were written."""
        self.warnings = warnings or []
        self.problems = problems or []
        """What Consul finds only when an agent starts (or reloads). It must not run with any of these."""

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    def __repr__(self) -> str:
        return f"Config({', '.join(f'{key}={self.values[key]!r}' for key in self.given if '.' not in key)})"

    def to_debug(self) -> dict[str, Any]:
        """The DebugConfig of `/v1/agent/self`: Go's names, secrets hidden."""
        from core.config.debug import debug_of

        return debug_of(self)
