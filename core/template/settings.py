"""What a runner is told to do: the configuration of consul-template and what ctl adds
(reference/template.md 5). Sources are merged left to right; unknown keys are errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from core.errors import ConfigError
from core.template.plan import Safety, Wait
from core.template.settings_keys import Program, Tree, Variables, merge


@dataclass(frozen=True)
class Child:
    """The supervised program of exec mode; `reload` empty means that it is started anew."""

    program: Program
    splay: float = 0.0
    reload: str = ""
    kill: str = "SIGINT"
    kill_timeout: float = 30.0


@dataclass(frozen=True)
class Output:
    """One template: what it is made of, where it goes, and what must hold."""

    source: str = ""
    contents: str = ""
    destination: str = ""
    make_folders: bool = True
    error_on_missing_key: bool = False
    error_fatal: bool = True
    perms: int | None = None
    user: str = ""
    group: str = ""
    backup: bool = False
    left: str = ""
    right: str = ""
    denied: frozenset[str] = frozenset()
    sandbox: str = ""
    wait: Wait = field(default_factory=Wait)
    command: Program | None = None
    check: str = ""  # run by the shell before the new file replaces the old one; {tmp} is the new file
    check_timeout: float = 30.0
    restore: bool = True  # the old file, when the command fails
    safety: Safety = field(default_factory=Safety)

    @property
    def name(self) -> str:
        """What errors call it."""
        return self.source or "(dynamic)"


@dataclass(frozen=True)
class Retry:
    """How a question that failed is asked again; 0 attempts are no limit. A limit that nobody set counts
    only until everything has been rendered once: who follows a cluster outlives its failures."""

    attempts: int = 12
    backoff: float = 0.25
    most: float = 60.0
    limit_set: bool = False


@dataclass(frozen=True)
class Settings:
    """All of it."""

    outputs: tuple[Output, ...] = ()
    child: Child | None = None
    agent: Mapping[str, str] = field(default_factory=dict)  # flags of ctl's client
    retry: Retry = field(default_factory=Retry)
    kill: str = "SIGINT"
    reload: str = "SIGHUP"
    max_stale: float = 2.0
    query_wait: float = 60.0
    once: bool = False
    pid_file: str = ""
    log_level: str = "WARN"
    log_file: str = ""
    syslog: tuple[str, str] | None = None  # facility and name
    warnings: tuple[str, ...] = ()


# --- from values to settings ----------------------------------------------------------------------


def settings(tree: Tree) -> Settings:
    """The settings that decoded and merged values make. ConfigError for what cannot be done."""
    once = tree.get("once", False)
    wait = _wait(tree.get("wait", {}))
    outputs = tuple(_output(each, tree, wait) for each in tree.get("template", []))
    child = tree.get("exec", {})
    retry = tree.get("consul", {}).get("retry", {})
    syslog = tree.get("syslog", {})
    warnings = []
    if tree.get("deduplicate", {}).get("enabled"):
        warnings.append("deduplicate is not needed and ignored: the agent shares equal queries by itself")
    if set(tree.get("log_file", {})) - {"path"}:
        warnings.append("log_file is not rotated here: let logrotate do it")
    return Settings(
        outputs=outputs,
        child=_child(child) if child.get("enabled", True) else None,
        agent=_agent(tree.get("consul", {})),
        retry=Retry(
            attempts=retry.get("attempts", 12) if retry.get("enabled", True) else 1,
            backoff=retry.get("backoff", 0.25),
            most=retry.get("max_backoff", 60.0),
            limit_set=not {"enabled", "attempts"}.isdisjoint(retry),
        ),
        kill=tree.get("kill_signal") or "SIGINT",
        reload=tree.get("reload_signal", "SIGHUP"),
        max_stale=tree.get("max_stale", 2.0),
        query_wait=tree.get("block_query_wait", 60.0),
        once=once,
        pid_file=tree.get("pid_file", ""),
        log_level=tree.get("log_level", "WARN").upper(),
        log_file=tree.get("log_file", {}).get("path", ""),
        syslog=(syslog.get("facility", "LOCAL0"), syslog.get("name", "consul-template"))
        if syslog.get("enabled", bool(syslog))
        else None,
        warnings=tuple(warnings),
    )


def _wait(block: Tree) -> Wait:
    least = block.get("min", 0.0)
    if not block.get("enabled", True) or not least:
        return Wait()
    most = block.get("max", 4 * least)
    if most < least:
        raise ConfigError("wait: min must be less than max")
    return Wait(least, most)


def _output(block: Tree, tree: Tree, wait: Wait) -> Output:
    source, contents = block.get("source", ""), block.get("contents", "")
    if bool(source) == bool(contents):
        raise ConfigError("a template needs a source or contents, and not both")
    delimiters = tree.get("default_delimiters", {})
    command = block.get("exec", {}).get("command") or block.get("command")
    if command is not None:
        timeout = block.get("exec", {}).get("timeout", block.get("command_timeout", 30.0))
        command = _program(command, timeout, block.get("exec", {}))
    denied = (*block.get("function_denylist", ()), *block.get("function_blacklist", ()))
    lost = _either(block, "error_on_missing_key", tree, "err_on_failed_lookup", False)
    fatal = _either(block, "error_fatal", tree, "template_error_fatal", True)
    user = _either(block, "user", block, "uid", "")
    group = _either(block, "group", block, "gid", "")
    return Output(
        source=source,
        contents=contents,
        destination=block.get("destination", ""),
        make_folders=block.get("create_dest_dirs", True),
        error_on_missing_key=lost,
        error_fatal=fatal,
        perms=block.get("perms") or None,
        user=user,
        group=group,
        backup=block.get("backup", False),
        left=block.get("left_delimiter", delimiters.get("left", "")),
        right=block.get("right_delimiter", delimiters.get("right", "")),
        denied=frozenset(denied),
        sandbox=block.get("sandbox_path", ""),
        wait=_wait(block["wait"]) if "wait" in block else wait,
        command=command,
        check=block.get("check", ""),
        check_timeout=block.get("check_timeout", 30.0),
        restore=block.get("restore_on_failure", True),
        safety=Safety(block.get("min_instances", 0), block.get("on_empty", False)),
    )


def _either(first: Tree, key: str, second: Tree, other: str, default: Any) -> Any:
    return first[key] if key in first else second.get(other, default)


def _program(command: Program, timeout: float, block: Tree) -> Program:
    """The command of a block that may say what its environment is."""
    env = block.get("env", {})
    variables = Variables(
        pristine=env.get("pristine", False),
        custom=env.get("custom", ()),
        allowed=(*env.get("allowlist", ()), *env.get("whitelist", ())),
        denied=(*env.get("denylist", ()), *env.get("blacklist", ())),
    )
    return Program(command.words, command.line, timeout, variables)


def _child(block: Tree) -> Child | None:
    command = block.get("command")
    if command is None:
        return None
    return Child(
        program=_program(command, block.get("timeout", 0.0), block),
        splay=block.get("splay", 0.0),
        reload=block.get("reload_signal", ""),
        kill=block.get("kill_signal") or "SIGINT",
        kill_timeout=block.get("kill_timeout", 30.0),
    )


def _agent(consul: Tree) -> dict[str, str]:
    """The flags of ctl's client that the consul block stands for."""
    ssl = consul.get("ssl", {})
    secure = ssl.get("enabled", bool(set(ssl) - {"verify"}))
    address = consul.get("address", "")
    if secure and address and "://" not in address:
        address = f"https://{address}"
    found = {
        "http-addr": address,
        "token": consul.get("token", ""),
        "token-file": consul.get("token_file", ""),
        "ca-file": ssl.get("ca_cert", ""),
        "ca-path": ssl.get("ca_path", ""),
        "client-cert": ssl.get("cert", ""),
        "client-key": ssl.get("key", ""),
        "tls-server-name": ssl.get("server_name", ""),
    }
    auth = consul.get("auth", {})
    if auth.get("enabled", bool(auth)):
        found["HTTP_AUTH"] = f"{auth.get('username', '')}:{auth.get('password', '')}"
    if secure and not ssl.get("verify", True):
        found["HTTP_SSL_VERIFY"] = "false"
    if consul.get("namespace", "") not in ("", "default"):
        raise ConfigError("consul.namespace: namespaces are a feature of Consul Enterprise")
    return {name: value for name, value in found.items() if value}


def template_flag(text: str) -> Tree:
    """`IN:OUT[:CMD]` of the command line as a template block. ConfigError if it is none."""
    if text.startswith("{"):
        raise ConfigError("a template is given as IN:OUT[:COMMAND]")
    source, _, rest = text.partition(":")
    destination, _, command = rest.partition(":")
    if not source.strip():
        raise ConfigError(f'invalid template "{text}": it is given as IN:OUT[:COMMAND]')
    return {
        "source": source,
        "destination": destination,
        **({"command": Program(line=command)} if command.strip() else {}),
    }


def of(trees: Sequence[Tree]) -> Settings:
    """The settings of several decoded sources, left to right."""
    merged: Tree = {}
    for tree in trees:
        merged = merge(merged, tree)
    return settings(merged)
