"""What Consul finds only when an agent starts: unusable services, checks, watches, words.

`ctl validate` shows these as well; an agent does not start, or reload, with any of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from core.codec import duration
from core.codec.duration import quote
from core.config.identity import node_id_error
from core.config.settings import Config
from core.config.watches import NEEDED, PARAMETERS
from core.node.definitions import CheckDefinition
from core.node.registration import check_problem

LOG_LEVELS = ("TRACE", "DEBUG", "INFO", "WARN", "ERR", "ERROR")
SCRIPTS_DISABLED = (
    "Scripts are disabled on this agent; to enable, configure 'enable_script_checks' or "
    "'enable_local_script_checks' to true"
)
_POLICIES = ("allow", "deny")
_DOWN_POLICIES = ("allow", "deny", "extend-cache", "async-cache")
_WATCH_COMMON = (
    "type",
    "datacenter",
    "token",
    "stale",
    "args",
    "handler",
    "handler_type",
    "http_handler_config",
    "initial",
    "diff",
    "debounce",
)


def find_problems(config: Config) -> list[str]:
    """Every problem, in Consul's words."""
    return [*_words(config), *_services(config), *_checks(config), *_watches(config)]


def _words(config: Config) -> Iterator[str]:
    level = config["log_level"]
    if level.upper() not in LOG_LEVELS:
        yield f"Invalid log level: {level}. Valid log levels are: [{' '.join(LOG_LEVELS)}]"
    if config["acl.default_policy"] not in _POLICIES:
        yield f"Unsupported default ACL policy: {config['acl.default_policy']}"
    if config["acl.down_policy"] not in _DOWN_POLICIES:
        yield f"Unsupported down ACL policy: {config['acl.down_policy']}"
    if config["ports.serf_lan"] <= 0:
        yield "ports.serf_lan cannot be off: agents find each other there"
    if config["server"] and config["ports.server"] <= 0:
        yield "ports.server cannot be off on a server: agents ask it there"
    mode, group = config["unix_sockets.mode"], config["unix_sockets.group"]
    if mode and not (mode.isascii() and mode.isdigit() and set(mode) <= set("01234567")):
        yield f"invalid mode specified: {mode}"
    if group and not (group.isascii() and group.isdigit()):
        yield f"invalid group specified: {group}"
    if config["node_id"]:
        error = node_id_error(config["node_id"])
        if error:
            yield f"Failed to setup node ID: {error}"


def _services(config: Config) -> Iterator[str]:
    for service in config.services:
        where = f"Failed to register service {quote(service.name or service.id)}"
        if not service.name:
            yield f"{where}: Service name missing"
        if service.socket_path and (service.address or service.port):
            yield f"{where}: socket_path may not be used with address or port"
        for check in service.checks:
            error = _check_error(check, config)
            if error:
                yield f"{where}: {error}"


def _checks(config: Config) -> Iterator[str]:
    known = {service.id or service.name for service in config.services}
    for check in config.checks:
        name = check.id or check.name
        error = _check_error(check, config) if name else "CheckID missing"
        if not error and check.service_id and check.service_id not in known:
            error = f"ServiceID {quote(check.service_id)} does not exist"
        if error:
            yield f"Failed to register check '{name}': {error}"


def _check_error(check: CheckDefinition, config: Config) -> str:
    error = check_problem(check)
    if error:
        return f"Check is not valid: {error}"
    allowed = config["enable_script_checks"] or config["enable_local_script_checks"]
    return SCRIPTS_DISABLED if check.args and not allowed else ""


def _watches(config: Config) -> Iterator[str]:
    for watch in config.watches:
        error = watch_error(watch)
        if error:
            yield f"Failed to parse watch ({go_syntax(watch)}): {error}"
        else:
            error = _handler_error(watch)
            if error:
                yield error


def watch_error(watch: dict[str, Any]) -> str:
    """Why a watch cannot be asked, in the words of `consul watch`; `` when it can."""
    kind = watch.get("type") or ""
    if not isinstance(kind, str):
        return "Expecting type to be a string"
    if not kind:
        return "Watch type must be specified"
    if kind not in PARAMETERS:
        return f"Unsupported watch type: {kind}"
    for name in ("datacenter", "token", "handler_type", "key", "prefix", "service", "state", "name"):
        if name in watch and not isinstance(watch[name], str):
            return f"Expecting {name} to be a string"
    for name in ("stale", "passingonly", "initial", "diff"):
        if name in watch and not isinstance(watch[name], bool):
            return f"Expecting {name} to be a boolean"
    if kind in NEEDED and not watch.get(NEEDED[kind]):
        return f"Must specify a single {NEEDED[kind]} to watch"
    if kind == "checks" and watch.get("service") and watch.get("state"):
        return "Cannot specify service and state"
    extra = [name for name in watch if name not in _WATCH_COMMON and name not in PARAMETERS[kind]]
    return f"Invalid parameters: [{' '.join(extra)}]" if extra else ""


def _handler_error(watch: dict[str, Any]) -> str:
    http = watch.get("handler_type") == "http"
    args = watch.get("args")
    if watch.get("handler_type", "script") not in ("script", "http"):
        return f"Handler type '{watch['handler_type']}' not recognized"
    if http and not isinstance(watch.get("http_handler_config"), dict):
        return "Handler type 'http' requires 'http_handler_config' to be set"
    if "handler" in watch and not isinstance(watch["handler"], str):
        return "Watch handler must be a string"
    if "debounce" in watch:
        try:
            duration.parse(watch["debounce"])
        except (TypeError, ValueError) as wrong:
            return f"Watch debounce is no duration: {wrong}"
    if http and (problem := _http_error(watch["http_handler_config"])):
        return problem
    listed = isinstance(args, list) and args and all(isinstance(arg, str) for arg in args)
    if args is not None and not listed:
        return "Watch args must be a list of strings"
    handlers = http + ("handler" in watch) + (args is not None)
    if handlers > 1:
        return "Only one watch handler allowed"
    return "" if handlers else "Must define a watch handler"


def _http_error(config: dict[str, Any]) -> str:
    if not isinstance(config.get("path"), str) or not config["path"]:
        return "Requires 'path' to be set"
    try:
        duration.parse(config.get("timeout") or "0s")
    except (TypeError, ValueError) as error:
        return f"Failed to parse timeout: {error}"
    header = config.get("header") or {}
    lists = header.values() if isinstance(header, dict) else [0]
    if not all(isinstance(one, str | list) for one in lists):
        return "http_handler_config: header must map names to lists of values"
    return ""


def go_syntax(value: Any) -> str:
    """A plain value as Go's `%#v` shows it."""
    if isinstance(value, dict):
        inner = ", ".join(f"{quote(key)}:{go_syntax(item)}" for key, item in sorted(value.items()))
        return f"map[string]interface {{}}{{{inner}}}"
    if isinstance(value, list):
        return f"[]interface {{}}{{{', '.join(go_syntax(item) for item in value)}}}"
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "interface {}(nil)"
    if isinstance(value, float):
        return f"{value:g}"
    return quote(value) if isinstance(value, str) else str(value)
