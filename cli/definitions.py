"""Configuration files on the command line: `validate`, and services and checks to register."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct, to_builtins

from cli.call import Call, note
from cli.command import Failure, Usage
from core.codec.duration import show
from core.config.decode import decode
from core.config.definitions import CHECK_DURATIONS, check_of, service_of
from core.config.flags import Flags
from core.config.formats import Source
from core.config.load import schema
from core.errors import ConfigError
from core.node.definitions import CheckDefinition, ServiceDefinition
from core.store.structs import go_name


def validate_paths(call: Call) -> int:
    """`ctl validate`: Consul's verdict on stdout or stderr; warnings never fail it."""
    from agent.configfiles import load_config
    from agent.interfaces import machine
    from core.config.addresses import resolve

    forced = call.text("config-format")
    if forced not in ("", "json", "hcl"):
        raise Usage("-config-format must be either 'hcl' or 'json")
    try:
        config = load_config(Flags(config_paths=call.arguments, config_format=forced), call.yes("strict"))
        resolve(config, machine())
    except ConfigError as error:
        raise Failure(f"Config validation failed: {error}") from None
    for warning in config.warnings:
        note(warning)
    # Consul finds these only when an agent starts, and scripts written for it expect a pass.
    if call.name == "consul":
        for problem in config.problems:
            note(problem)
    elif config.problems:
        raise Failure("Config validation failed: " + "\n".join(config.problems))
    call.out.done("Configuration is valid!", {"Valid": True, "Warnings": config.warnings})
    return 0


def services_of_files(paths: Iterable[str]) -> list[dict[str, Any]]:
    """Bodies for the agent's registration of all services that the files define."""
    bodies = []
    for source in _sources(paths):
        for fields in _defined(source, "service", "services"):
            bodies.append(_service_body(service_of(fields, _complain(source))))
    return _some(bodies, "service")


def checks_of_files(paths: Iterable[str]) -> list[dict[str, Any]]:
    """Bodies for the agent's registration of all checks that the files define."""
    bodies = []
    for source in _sources(paths):
        for fields in _defined(source, "check", "checks"):
            bodies.append(_check_body(check_of(fields, _complain(source))))
    return _some(bodies, "check")


def _sources(paths: Iterable[str]) -> list[Source]:
    from agent.configfiles import read_sources

    try:
        sources, warnings = read_sources(paths)
    except ConfigError as error:
        raise Failure(f"Error: {error}") from None
    for warning in warnings:
        note(warning)
    return sources


def _defined(source: Source, one: str, many: str) -> list[dict[str, Any]]:
    """The decoded definitions of a file, under its singular and its plural key."""
    try:
        values, warnings = decode(source, schema(), strict=False)
    except ConfigError as error:
        raise Failure(f"Error: {error}") from None
    for warning in warnings:
        note(f"{source.name}: {warning}")
    return [*values.get(many, []), *([values[one]] if one in values else [])]


def _complain(source: Source) -> Callable[[str], None]:
    def complain(text: str) -> None:
        raise Failure(f"Error: {source.name}: {text}")

    return complain


def _some(bodies: list[dict[str, Any]], what: str) -> list[dict[str, Any]]:
    if not bodies:
        raise Failure(f"Error: no {what} is defined in the files")
    return bodies


def _service_body(service: ServiceDefinition) -> dict[str, Any]:
    body = _given(service)
    if service.checks:
        body["Checks"] = [_check_body(check) for check in service.checks]
    return {"Name": service.name, **body}


def _check_body(check: CheckDefinition) -> dict[str, Any]:
    body = _given(check)
    for name in CHECK_DURATIONS:
        if go_name(name) in body:
            body[go_name(name)] = show(getattr(check, name))
    return {"Name": check.name or check.id, **body}


def _given(definition: Struct) -> dict[str, Any]:
    """The fields that differ from their defaults, under the API's names."""
    empty = type(definition)()
    fields = {}
    for name in definition.__struct_fields__:
        value = getattr(definition, name)
        if value != getattr(empty, name):
            fields[go_name(name)] = to_builtins(value)
    return fields
