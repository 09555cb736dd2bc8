"""What a reload changes: all of it can be applied, or some of it waits for a restart.

A reload first loads and checks the whole new configuration (`load`, `Config.problems`); only a good one
gets here. What needs a restart keeps its old value and is named, never dropped in silence."""

from __future__ import annotations

from typing import Any, NamedTuple

from core.codec.duration import show
from core.config.options import BY_KEY
from core.config.settings import Config

HIDDEN = "<hidden>"


class Change(NamedTuple):
    """An option that differs. `old` and `new` are for people: durations are text, secrets are hidden."""

    key: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.key}: {self.old} -> {self.new}"


class Reload(NamedTuple):
    """The difference between the running configuration and a new one."""

    config: Config
    """What to run with from now on: the new values where they can be applied, the old ones elsewhere."""
    applied: list[Change]
    restart: list[Change]
    """Changes that wait for a restart."""
    services: bool
    checks: bool
    watches: bool

    @property
    def empty(self) -> bool:
        """Whether nothing differs at all."""
        return not (self.applied or self.restart or self.services or self.checks or self.watches)


def compare(old: Config, new: Config) -> Reload:
    """What running with `new` instead of `old` means."""
    applied: list[Change] = []
    restart: list[Change] = []
    values = dict(new.values)
    for key, value in new.values.items():
        if value == old.values[key]:
            continue
        change = Change(key, shown(key, old.values[key]), shown(key, value))
        if BY_KEY[key].reload:
            applied.append(change)
        else:
            restart.append(change)
            values[key] = old.values[key]
    config = Config(
        values,
        dev=old.dev,
        given=new.given,
        services=new.services,
        checks=new.checks,
        watches=new.watches,
        warnings=new.warnings,
        problems=new.problems,
    )
    return Reload(
        config,
        applied,
        restart,
        services=old.services != new.services,
        checks=old.checks != new.checks,
        watches=old.watches != new.watches,
    )


def shown(key: str, value: Any) -> str:
    """A value for people."""
    option = BY_KEY[key]
    if option.secret:
        return HIDDEN if value else '""'
    if option.type == "duration":
        return show(value)
    if option.type == "durations":
        return str({name: show(item) for name, item in value.items()})
    if isinstance(value, bool):
        return "true" if value else "false"
    return f'"{value}"' if isinstance(value, str) else str(value)
