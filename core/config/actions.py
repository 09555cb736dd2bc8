"""The block `actions`: what `ctl exec` may run on this agent, by name, and nothing else.

actions {
  deploy {
    args       = ["/usr/local/bin/deploy", "--all"]
    user       = "web"      # default: the agent's own
    timeout    = "60s"
    parameters = false      # true: what follows the name in `ctl exec NAME ...` is added to args
  }
}"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.codec import duration
from core.errors import ConfigError
from core.node.definitions import ACTION_NAME, ActionDefinition

LONGEST = 24 * duration.HOUR
_KNOWN = ("args", "parameters", "timeout", "user")


def actions(given: Mapping[str, Any]) -> dict[str, ActionDefinition]:
    """The actions of the block by name. ConfigError."""
    return {name: _action(name, fields) for name, fields in given.items()}


def _action(name: str, fields: Any) -> ActionDefinition:
    where = f"actions.{name}"
    if not ACTION_NAME.fullmatch(name):
        raise ConfigError(f"{where}: a name has letters, digits, '_', '-' and '.', at most 64 of them")
    if not isinstance(fields, dict):
        raise ConfigError(f'{where}: a block was expected: {name} {{ args = ["/bin/{name}"] }}')
    unknown = sorted(fields.keys() - set(_KNOWN))
    if unknown:
        raise ConfigError(f"{where}: invalid config key {unknown[0]}; known are {', '.join(_KNOWN)}")
    args = fields.get("args")
    if not (
        isinstance(args, list) and args and all(isinstance(word, str) and "\0" not in word for word in args)
    ):
        raise ConfigError(f"{where}: args is required, a list of words: the program and its arguments")
    if not args[0].startswith("/"):
        raise ConfigError(f"{where}: args must begin with the whole path of a program, not {args[0]!r}")
    user = fields.get("user", "")
    if not isinstance(user, str):
        raise ConfigError(f"{where}: user must be the name of a user")
    parameters = fields.get("parameters", False)
    if not isinstance(parameters, bool):
        raise ConfigError(f"{where}: parameters must be true or false")
    return ActionDefinition(name, tuple(args), user, _timeout(where, fields), parameters)


def _timeout(where: str, fields: dict[str, Any]) -> int:
    try:
        timeout = duration.parse(fields.get("timeout", "60s"))
    except (TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{where}: timeout: {error}") from None
    if not 0 < timeout <= LONGEST:
        raise ConfigError(f"{where}: timeout must be above 0 and at most 24h")
    return timeout
