"""The keys of a runner's configuration and the kinds of their values (reference/template.md 5).

The keys of consul-template, and what ctl adds to a template: `check`, `check_timeout`, `min_instances`,
`on_empty` and `restore_on_failure`. Unknown keys are errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from core.codec import duration
from core.errors import ConfigError

Tree = dict[str, Any]

SIGNALS = frozenset(
    [
        "SIGABRT",
        "SIGALRM",
        "SIGBUS",
        "SIGCHLD",
        "SIGCONT",
        "SIGFPE",
        "SIGHUP",
        "SIGILL",
        "SIGINT",
        "SIGIO",
        "SIGKILL",
        "SIGPIPE",
        "SIGPROF",
        "SIGQUIT",
        "SIGSEGV",
        "SIGSTOP",
        "SIGSYS",
        "SIGTERM",
        "SIGTRAP",
        "SIGTSTP",
        "SIGTTIN",
        "SIGTTOU",
        "SIGURG",
        "SIGUSR1",
        "SIGUSR2",
        "SIGVTALRM",
        "SIGWINCH",
        "SIGXCPU",
        "SIGXFSZ",
    ]
)


@dataclass(frozen=True)
class Variables:
    """What a program gets of our environment, as patterns of names, and what it gets besides."""

    pristine: bool = False  # nothing of ours
    custom: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()


@dataclass(frozen=True)
class Program:
    """A command: `words` to run as they are, or one `line` for the shell."""

    words: tuple[str, ...] = ()
    line: str = ""
    timeout: float = 30.0
    variables: Variables = field(default_factory=Variables)

    def __str__(self) -> str:
        return self.line or " ".join(self.words)


class _Wrong(ValueError):
    """A value of another kind than its key takes."""


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Wrong("must be a string")
    return value


def _flag(value: Any) -> bool:
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise _Wrong("must be true or false")
    return value


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _Wrong("must be a whole number, 0 or more")
    return value


def seconds(value: Any) -> float:
    """A duration such as "10s" in seconds. ValueError if it is none."""
    if value == 0 and not isinstance(value, bool):
        return 0.0
    if not isinstance(value, str):
        raise _Wrong('must be a duration with a unit, such as "10s"')
    try:
        return duration.parse(value) / duration.SECOND
    except ValueError as error:
        raise _Wrong(str(error)) from None


def signal_of(value: Any) -> str:
    """The name of a signal, `` for none (SIGNULL). ValueError if there is no such signal."""
    name = _text(value).upper()
    if name in ("", "SIGNULL", "NULL"):
        return ""
    name = name if name.startswith("SIG") else f"SIG{name}"
    if name not in SIGNALS:
        raise _Wrong(f'there is no signal "{value}"; there are {", ".join(sorted(SIGNALS))}')
    return name


def _texts(value: Any) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
        raise _Wrong("must be a list of strings")
    return tuple(values)


def _mode(value: Any) -> int:
    text = str(value) if isinstance(value, str) else f"{value:o}" if isinstance(value, int) else ""
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o7777:
        raise _Wrong('must be octal permissions such as "0644"')
    return mode


def program(value: Any) -> Program | None:
    """A command: a string is for the shell, a list is run as it is."""
    if isinstance(value, str):
        return Program(line=value) if value.strip() else None
    words = _texts(value)
    if len(words) == 1:
        return Program(line=words[0])
    return Program(words=words) if words else None


def wait_of(value: Any) -> Tree:
    """`MIN[:MAX]` as the block that it stands for."""
    least, _, most = _text(value).partition(":")
    return {"min": seconds(least), **({"max": seconds(most)} if most else {})}


def _on_empty(value: Any) -> bool:
    if value not in ("write", "keep"):
        raise _Wrong('must be "write" or "keep"')
    return bool(value == "keep")


# --- keys -----------------------------------------------------------------------------------------

_Kind = Callable[[Any], Any]
_Schema = dict[str, Any]  # key -> _Kind, a _Schema for a block, or [_Schema] for blocks that repeat

_WAIT: _Schema = {"enabled": _flag, "min": seconds, "max": seconds}
_ENV: _Schema = {
    "pristine": _flag,
    "custom": _texts,
    "allowlist": _texts,
    "denylist": _texts,
    "whitelist": _texts,
    "blacklist": _texts,
}
_EXEC: _Schema = {
    "enabled": _flag,
    "command": program,
    "timeout": seconds,
    "splay": seconds,
    "env": _ENV,
    "reload_signal": signal_of,
    "kill_signal": signal_of,
    "kill_timeout": seconds,
}
_TEMPLATE: _Schema = {
    "source": _text,
    "contents": _text,
    "destination": _text,
    "create_dest_dirs": _flag,
    "error_on_missing_key": _flag,
    "error_fatal": _flag,
    "perms": _mode,
    "backup": _flag,
    "user": lambda value: str(value),
    "group": lambda value: str(value),
    "uid": lambda value: str(_count(value)),
    "gid": lambda value: str(_count(value)),
    "left_delimiter": _text,
    "right_delimiter": _text,
    "sandbox_path": _text,
    "function_denylist": _texts,
    "function_blacklist": _texts,
    "wait": _WAIT,
    "exec": _EXEC,
    "command": program,
    "command_timeout": seconds,
    "check": _text,
    "check_timeout": seconds,
    "min_instances": _count,
    "on_empty": _on_empty,
    "restore_on_failure": _flag,
}
_CONSUL: _Schema = {
    "address": _text,
    "namespace": _text,
    "token": _text,
    "token_file": _text,
    "auth": {"enabled": _flag, "username": _text, "password": _text},
    "retry": {"enabled": _flag, "attempts": _count, "backoff": seconds, "max_backoff": seconds},
    "ssl": {
        "enabled": _flag,
        "verify": _flag,
        "cert": _text,
        "key": _text,
        "ca_cert": _text,
        "ca_path": _text,
        "server_name": _text,
    },
    "transport": {
        "dial_keep_alive": seconds,
        "dial_timeout": seconds,
        "disable_keep_alives": _flag,
        "max_idle_conns_per_host": _count,
        "tls_handshake_timeout": seconds,
    },
}
_TOP: _Schema = {
    "reload_signal": signal_of,
    "kill_signal": signal_of,
    "max_stale": seconds,
    "log_level": _text,
    "block_query_wait": seconds,
    "pid_file": _text,
    "once": _flag,
    "template_error_fatal": _flag,
    "err_on_failed_lookup": _flag,
    "default_delimiters": {"left": _text, "right": _text},
    "wait": _WAIT,
    "consul": _CONSUL,
    "template": [_TEMPLATE],
    "exec": _EXEC,
    "deduplicate": {
        "enabled": _flag,
        "prefix": _text,
        "ttl": seconds,
        "max_stale": seconds,
        "block_query_wait": seconds,
    },
    "syslog": {"enabled": _flag, "facility": _text, "name": _text},
    "log_file": {
        "path": _text,
        "log_rotate_bytes": _count,
        "log_rotate_duration": seconds,
        "log_rotate_max_files": lambda value: value,
    },
}
_ABSENT = {
    "vault": "vault is not supported: keep secrets in files (`file`) or in the environment (`env`)",
    "nomad": "nomad is not supported",
}


def decode(tree: Any, where: str) -> Tree:
    """The values of one source, of the kinds that their keys take. ConfigError names the key."""
    return _block(tree, _TOP, where, "")


def _block(tree: Any, schema: _Schema, where: str, path: str) -> Tree:
    if isinstance(tree, list):  # HCL: a block is a list of what stands in its braces
        merged: Tree = {}
        for each in tree:
            merged = merge(merged, _block(each, schema, where, path))
        return merged
    if not isinstance(tree, dict):
        raise ConfigError(f"{where}: {path or 'the file'} must be a block")
    out: Tree = {}
    for key, value in tree.items():
        name = f"{path}.{key}" if path else key
        if not path and key in _ABSENT:
            raise ConfigError(f"{where}: {_ABSENT[key]}; remove the block")
        if key not in schema:
            known = ", ".join(sorted(schema))
            raise ConfigError(f"{where}: there is no key {name}; there are {known}")
        out[key] = _value(value, schema[key], where, name)
    return out


def _value(value: Any, kind: Any, where: str, name: str) -> Any:
    if isinstance(kind, list):
        blocks = value if isinstance(value, list) else [value]
        return [_block(each, kind[0], where, name) for each in blocks]
    try:
        if kind is _WAIT and isinstance(value, str):
            return wait_of(value)
        return _block(value, kind, where, name) if isinstance(kind, dict) else kind(value)
    except ValueError as error:
        raise ConfigError(f"{where}: {name} {error}") from None


def merge(first: Tree, second: Tree) -> Tree:
    """`second` over `first`: blocks key by key, templates one after the other."""
    out = dict(first)
    for key, value in second.items():
        known = out.get(key)
        if isinstance(known, dict) and isinstance(value, dict):
            out[key] = merge(known, value)
        elif key == "template" and isinstance(known, list):
            out[key] = [*known, *value]
        else:
            out[key] = value
    return out
