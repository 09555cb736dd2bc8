"""Sources and flags to a Config: decode, merge, convert, fill in, check. Pure; reads no file.

Merge order, reference/config.md section 1: defaults, `-dev` defaults, list flags, files, other flags,
`-hcl` fragments. A later scalar wins, lists are appended, maps are overlaid key by key."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from core.codec import duration
from core.config.decode import decode, several
from core.config.definitions import CHECK, CHECKS, SERVICE, SERVICES, check_of, nanoseconds, service_of
from core.config.flags import Flags
from core.config.formats import Source
from core.config.options import ALIASES, BY_KEY, OPTIONS
from core.config.problems import find_problems
from core.config.rules import check_rules, fill_in
from core.config.schema import LISTS, MAPS, Block, Node, Option, tree
from core.config.settings import Config
from core.errors import ConfigError

__all__ = ["Config", "Source", "load", "schema"]

_DEFINITIONS: dict[str, Node] = {
    "service": SERVICE,
    "services": SERVICES,
    "check": CHECK,
    "checks": CHECKS,
    "watches": "opaques",
}


@cache
def schema() -> Block:
    """The shape of a configuration file."""
    return tree(OPTIONS, _DEFINITIONS, ALIASES)


def load(
    sources: Sequence[Source], flags: Flags | None = None, *, hostname: str = "", strict: bool = False
) -> Config:
    """The configuration that `sources` (files, in order) and `flags` make.

    `hostname` is the node name when none is given; `strict` refuses spellings that Consul refuses.
    ConfigError has Consul's text. What Consul would only find at the start of an agent is no error
    here, but in `Config.problems`."""
    flags = flags or Flags()
    merged = _Merge(strict)
    merged.add_flags(flags, lists=True)
    for source in sources:
        merged.add(source)
    merged.add_flags(flags, lists=False)
    for number, text in enumerate(flags.hcl):
        merged.add(Source(f"flag-{number}.hcl", "hcl", text))
    return merged.finish(flags.dev, hostname)


class _Merge:
    def __init__(self, strict: bool) -> None:
        self.strict = strict
        self.values: dict[str, Any] = {}
        self.given: dict[str, str] = {}
        self.services: list[tuple[str, dict[str, Any]]] = []
        self.checks: list[tuple[str, dict[str, Any]]] = []
        self.watches: list[dict[str, Any]] = []
        self.warnings: list[str] = []
        self.errors: list[tuple[str, str]] = []  # text, source

    def add(self, source: Source) -> None:
        values, warnings = decode(source, schema(), self.strict)
        self.warnings += [f"{source.name}: {warning}" for warning in warnings]
        for one, many, into in (("service", "services", self.services), ("check", "checks", self.checks)):
            found = [*values.pop(many, []), *([values.pop(one)] if one in values else [])]
            into += [(source.name, fields) for fields in found]
        self.watches += values.pop("watches", [])
        for key, value in _flatten(values, schema(), ""):
            self._put(BY_KEY[key], value, source.name)

    def add_flags(self, flags: Flags, lists: bool) -> None:
        for key, value in flags.values.items():
            option = BY_KEY[key]
            if (option.type in LISTS) == lists:
                self._put(option, value, f"flag -{option.flag}")

    def _put(self, option: Option, value: Any, origin: str) -> None:
        key = option.key
        if option.type in LISTS:
            self.values[key] = [*self.values.get(key, []), *value]
        elif option.type in MAPS:
            self.values[key] = {**self.values.get(key, {}), **value}
        else:
            self.values[key] = value
        self.given[key] = origin

    def finish(self, dev: bool, hostname: str) -> Config:
        values = {option.key: _default(option, dev) for option in OPTIONS if not option.old}
        for key, value in self.values.items():
            values[key] = self._convert(BY_KEY[key], value)
        self._move_old(values)
        services = [service_of(fields, self._complain(name)) for name, fields in self.services]
        checks = [check_of(fields, self._complain(name)) for name, fields in self.checks]
        self._notice()
        config = Config(
            values,
            dev=dev,
            given=self.given,
            services=services,
            checks=checks,
            watches=self.watches,
            warnings=self.warnings,
        )
        fill_in(config, hostname)
        self._raise()
        check_rules(config)
        config.problems += find_problems(config)
        return config

    def _complain(self, origin: str) -> Any:
        return lambda text: self.errors.append((text, origin))

    def _convert(self, option: Option, value: Any) -> Any:
        complain = self._complain(self.given[option.key])
        if option.type == "duration":
            return nanoseconds(value, option.key, complain)
        if option.type == "durations":
            return {
                name: nanoseconds(text, f"{option.key}[{duration.quote(name)}]", complain)
                for name, text in value.items()
            }
        if option.type == "port":
            if value > 65535:
                complain(f"{option.key}: invalid port: {value}")
            return value if value > 0 else -1
        return value

    def _move_old(self, values: dict[str, Any]) -> None:
        """Old spellings speak where the new one is silent."""
        for key in [key for key in self.given if BY_KEY[key].old]:
            option = BY_KEY[key]
            value = values.pop(key)
            if not option.quiet:
                self.warnings.append(
                    f"The '{key}' field is deprecated. Use the '{option.old}' field instead."
                )
            if option.old not in self.given:
                values[option.old] = value
                self.given[option.old] = self.given[key]

    def _notice(self) -> None:
        """Say which of the given options do nothing here."""
        for key in self.given:
            option = BY_KEY[key]
            if option.unused and self.values.get(key) not in (None, "", False, [], {}):
                self.warnings.append(f'config key "{key}" has no effect: {option.unused}')

    def _raise(self) -> None:
        if self.errors:
            places = dict.fromkeys(f"(in {origin})" for _, origin in self.errors)
            raise ConfigError(several([text for text, _ in self.errors]) + "\n".join(places))


def _flatten(values: dict[str, Any], block: Block, prefix: str) -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for name, value in values.items():
        node = block.fields[name]
        if isinstance(node, Block):
            flat += _flatten(value, node, f"{prefix}{name}.")
        else:
            flat.append((prefix + name, value))
    return flat


def _default(option: Option, dev: bool) -> Any:
    value = option.dev if dev and option.dev is not None else option.default
    if option.type in LISTS:
        return list(value)
    return dict(value) if option.type in MAPS else value
