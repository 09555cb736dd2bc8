"""`ctl template`: files that are true to the cluster. reference/template.md sections 4 to 6.

Called by the name `consul-template` (a script of this package) it takes the same flags."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any

from cli.command import Command, Failure, Flag, Usage

if TYPE_CHECKING:
    from cli.call import Call
    from cli.supervise import Signals
    from core.template.settings import Settings

GENERAL, BAD_FLAGS, BAD_CONFIG = 11, 13, 15
_EXTENSIONS = (".hcl", ".json", ".toml", ".yaml", ".yml")


def main() -> None:
    """The console script `consul-template`."""
    from cli.main import run

    words = sys.argv[1:]
    if words and words[0] in ("-v", "-version", "--version"):
        from core.version import VERSION

        sys.stdout.write(f"consul-template v{VERSION} (ctl)\n")
        sys.exit(0)
    sys.exit(run(["template", *words], "consul-template"))


def template(call: Call) -> int:
    """`template`: render, watch, run."""
    from cli.parse import check_arguments, parse

    words, call.arguments = call.arguments, []
    try:
        parsed = parse(call.command, words)
        check_arguments(call.command, parsed.arguments)
    except Usage as usage:
        raise Failure(str(usage), kind="usage", code=BAD_FLAGS) from None
    call.values = parsed.values
    try:
        return _carry_out(call)
    except Failure as failure:
        failure.code = GENERAL if failure.code == 1 else failure.code
        raise


def _carry_out(call: Call) -> int:
    settings = _settings(call)
    if call.yes("parse-only"):
        from cli.templaterun import parse_only

        parse_only(settings)
        return 0
    from cli.supervise import Signals

    with Signals() as signals, contextlib.ExitStack() as stack:
        if settings.pid_file:
            from cli.templaterun import write_pid

            write_pid(settings.pid_file)
            stack.callback(_remove, settings.pid_file)
        return _run(call, settings, signals)


def _run(call: Call, settings: Settings, signals: Signals) -> int:
    from cli.templatelog import Log
    from cli.templaterun import Reload, Runner

    dry = ""
    if call.yes("dry"):
        dry = "whole" if call.name == "consul-template" else "diff"

    def made(settings: Settings) -> Runner:
        log = Log(settings)
        for warning in settings.warnings:
            log("WARN", warning)
        return Runner(settings, signals, log, _socket_address, lambda: made(_settings(call)), dry)

    runner = made(settings)
    while True:
        try:
            return runner.run()
        except Reload as reload:
            runner = reload.runner


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def _socket_address(text: str) -> str:
    from agent.interfaces import machine
    from core.config.sockaddr import TemplateError, evaluate
    from core.template.errors import FunctionError

    try:
        return evaluate(text, machine())
    except TemplateError as error:
        raise FunctionError(str(error)) from None


# --- settings -------------------------------------------------------------------------------------


def _settings(call: Call) -> Settings:
    """What files and flags say; flags win. Failure with the code for what is wrong."""
    from core.errors import ConfigError
    from core.template.settings import of
    from core.template.settings_keys import decode

    try:
        trees = [decode(tree, name) for name, tree in _files(call.many("config"))]
        try:
            trees.append(_flags(call))
        except (ConfigError, ValueError) as error:
            raise Failure(str(error), code=BAD_FLAGS) from None
        settings = of(trees)
    except ConfigError as error:
        raise Failure(str(error), code=BAD_CONFIG) from None
    if not settings.outputs and settings.child is None and not call.many("config"):
        raise Failure(
            "there is nothing to do: give a template with -template IN:OUT[:COMMAND]", code=BAD_FLAGS
        )
    return settings


def _files(paths: list[str]) -> list[tuple[str, Any]]:
    """The configuration files, folders in lexical order and recursively."""
    from cli.client import error_text
    from core.config.formats import Source, read
    from core.errors import ConfigError

    found = []
    for path in paths:
        names = sorted(_below(path)) if os.path.isdir(path) else [path]
        for name in names:
            try:
                with open(name, "rb") as file:
                    text = file.read().decode()
            except (OSError, UnicodeDecodeError) as error:
                reason = error_text(error) if isinstance(error, OSError) else str(error)
                raise ConfigError(f"cannot read {name}: {reason}") from None
            kind = os.path.splitext(name)[1].lstrip(".")
            kind = {"yml": "yaml"}.get(kind, kind if f".{kind}" in _EXTENSIONS else "hcl")
            found.append((name, read(Source(name, kind, text))))
    return found


def _below(folder: str) -> list[str]:
    return [
        os.path.join(place, name)
        for place, _, names in os.walk(folder)
        for name in names
        if not name.startswith(".")
    ]


_TEXTS = {  # flag -> key of the configuration
    "consul-addr": "consul.address",
    "consul-token": "consul.token",
    "consul-token-file": "consul.token_file",
    "consul-ssl-cert": "consul.ssl.cert",
    "consul-ssl-key": "consul.ssl.key",
    "consul-ssl-ca-cert": "consul.ssl.ca_cert",
    "consul-ssl-ca-path": "consul.ssl.ca_path",
    "consul-ssl-server-name": "consul.ssl.server_name",
    "retry": "consul.retry.backoff",
    "consul-retry-backoff": "consul.retry.backoff",
    "consul-retry-max-backoff": "consul.retry.max_backoff",
    "consul-transport-dial-keep-alive": "consul.transport.dial_keep_alive",
    "consul-transport-dial-timeout": "consul.transport.dial_timeout",
    "consul-transport-tls-handshake-timeout": "consul.transport.tls_handshake_timeout",
    "default-left-delimiter": "default_delimiters.left",
    "default-right-delimiter": "default_delimiters.right",
    "exec": "exec.command",
    "exec-kill-signal": "exec.kill_signal",
    "exec-kill-timeout": "exec.kill_timeout",
    "exec-reload-signal": "exec.reload_signal",
    "exec-splay": "exec.splay",
    "kill-signal": "kill_signal",
    "reload-signal": "reload_signal",
    "log-level": "log_level",
    "log-file": "log_file.path",
    "max-stale": "max_stale",
    "block-query-wait": "block_query_wait",
    "pid-file": "pid_file",
    "syslog-facility": "syslog.facility",
    "syslog-name": "syslog.name",
    "wait": "wait",
}
_SWITCHES = {
    "once": "once",
    "consul-ssl": "consul.ssl.enabled",
    "consul-ssl-verify": "consul.ssl.verify",
    "consul-retry": "consul.retry.enabled",
    "consul-transport-disable-keep-alives": "consul.transport.disable_keep_alives",
    "template-error-fatal": "template_error_fatal",
    "err-on-failed-lookup": "err_on_failed_lookup",
    "exec-env-pristine": "exec.env.pristine",
    "syslog": "syslog.enabled",
    "dedup": "deduplicate.enabled",
}
_LISTS = {
    "exec-env-custom": "exec.env.custom",
    "exec-env-allowlist": "exec.env.allowlist",
    "exec-env-denylist": "exec.env.denylist",
}
_COUNTS = {
    "consul-retry-attempts": "consul.retry.attempts",
    "consul-transport-max-idle-conns-per-host": "consul.transport.max_idle_conns_per_host",
}
# What ctl's own words for a template's safety become; they hold for the templates of the command line.
_SAFETY = {"check": "check", "min-instances": "min_instances", "on-empty": "on_empty", "backup": "backup"}
_COMMON = {  # the flags of every command of ctl
    "http-addr": "address",
    "token": "token",
    "token-file": "token_file",
}


def _flags(call: Call) -> dict[str, Any]:
    """The flags as the configuration that they stand for."""
    from core.template.settings import template_flag
    from core.template.settings_keys import decode, merge

    tree: dict[str, Any] = {}
    for flag, key in {**_TEXTS, **_SWITCHES, **_LISTS, **_COUNTS}.items():
        if flag in call.values:
            _set(tree, key.split("."), call.values[flag])
    for flag, key in _COMMON.items():
        if call.text(flag):
            _set(tree, ["consul", key], call.text(flag))
    for flag, key in (("ca-file", "ca_cert"), ("ca-path", "ca_path"), ("client-cert", "cert")):
        if call.text(flag):
            _set(tree, ["consul", "ssl", key], call.text(flag))
    for flag, key in (("client-key", "key"), ("tls-server-name", "server_name")):
        if call.text(flag):
            _set(tree, ["consul", "ssl", key], call.text(flag))
    if call.text("consul-auth"):
        user, _, password = call.text("consul-auth").partition(":")
        tree = merge(tree, {"consul": {"auth": {"username": user, "password": password}}})
    decoded = decode(tree, "the command line")
    safety = {key: call.values[flag] for flag, key in _SAFETY.items() if flag in call.values}
    safety = decode({"template": [safety]}, "the command line")["template"][0]
    templates = [{**template_flag(text), **safety} for text in call.many("template")]
    return {**decoded, **({"template": templates} if templates else {})}


def _set(tree: dict[str, Any], path: list[str], value: Any) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value


def _flag(name: str, kind: str, help: str, default: str = "") -> Flag:
    return Flag(name, kind, help, default=default)


FLAGS = (
    Flag("template", "list", "A template as IN:OUT[:COMMAND] (repeat).", complete="files"),
    Flag("config", "list", "Configuration file or folder: HCL, JSON, TOML, YAML (repeat).", complete="files"),
    _flag("once", "bool", "Render all templates once, run their commands, and end."),
    _flag("dry", "bool", "Write nothing and run nothing; show what would change."),
    _flag("parse-only", "bool", "Read the templates and end."),
    _flag(
        "wait",
        "string",
        "MIN[:MAX]: act MIN after the last change, at most MAX after the first.",
    ),
    _flag("check", "string", "Command that must like a new file, {tmp}, before it replaces the old one."),
    _flag("min-instances", "uint", "Keep the old file while a service has fewer instances."),
    Flag(
        "on-empty", "string", "When data is lost: `write` the file, or `keep` the old one.", default="write"
    ),
    _flag("backup", "bool", "Keep the file before the last change as OUT.bak."),
    _flag("exec", "string", "Program to supervise, told of each change."),
    _flag("exec-reload-signal", "string", "Signal that tells it; without one it is started anew."),
    _flag("exec-kill-signal", "string", "Signal that ends it.", "SIGINT"),
    _flag("exec-kill-timeout", "string", "Time until KILL.", "30s"),
    _flag("exec-splay", "string", "Random delay before it is told.", "0s"),
    _flag("exec-env-pristine", "bool", "Give it none of our environment."),
    _flag("exec-env-custom", "list", "NAME=VALUE for its environment (repeat)."),
    _flag("exec-env-allowlist", "list", "Variables that it may have; * stands for anything (repeat)."),
    _flag("exec-env-denylist", "list", "Variables that it must not have (repeat)."),
    _flag("kill-signal", "string", "Signal that ends this program.", "SIGINT"),
    _flag("reload-signal", "string", "Signal that has the configuration read again.", "SIGHUP"),
    _flag("max-stale", "string", "How old answers may be.", "2s"),
    _flag("block-query-wait", "string", "How long a query waits for a change.", "60s"),
    _flag("template-error-fatal", "bool", "End when a template fails.", "true"),
    _flag("err-on-failed-lookup", "bool", "A key that a map does not have is an error."),
    _flag("default-left-delimiter", "string", "Instead of {{."),
    _flag("default-right-delimiter", "string", "Instead of }}."),
    _flag("log-level", "string", "TRACE, DEBUG, INFO, WARN or ERR.", "WARN"),
    _flag("log-file", "string", "File for log lines, too."),
    _flag("pid-file", "string", "File for the number of this process."),
    _flag("syslog", "bool", "Log to syslog, too."),
    _flag("syslog-facility", "string", "Facility of syslog.", "LOCAL0"),
    _flag("syslog-name", "string", "Name in syslog.", "consul-template"),
    _flag("dedup", "bool", "Taken for compatibility; the agent shares equal queries by itself."),
    _flag("consul-addr", "string", "Address of the agent, as -http-addr."),
    _flag("consul-auth", "string", "USER[:PASSWORD] for HTTP."),
    _flag("consul-token", "string", "Token, as -token."),
    _flag("consul-token-file", "string", "File with the token, as -token-file."),
    _flag("consul-retry", "bool", "Ask again when a question fails.", "true"),
    _flag(
        "consul-retry-attempts",
        "uint",
        "How often to ask; 0 has no limit. Not set: until all is rendered.",
        "12",
    ),
    _flag("consul-retry-backoff", "string", "Time before the second attempt; doubles each time.", "250ms"),
    _flag("consul-retry-max-backoff", "string", "Longest time between attempts.", "1m"),
    _flag("retry", "string", "Old name of -consul-retry-backoff."),
    _flag("consul-ssl", "bool", "Speak TLS with the agent."),
    _flag("consul-ssl-verify", "bool", "Verify its certificate.", "true"),
    _flag("consul-ssl-cert", "string", "Client certificate, as -client-cert."),
    _flag("consul-ssl-key", "string", "Key of the certificate, as -client-key."),
    _flag("consul-ssl-ca-cert", "string", "Certificate authority, as -ca-file."),
    _flag("consul-ssl-ca-path", "string", "Folder of authorities, as -ca-path."),
    _flag("consul-ssl-server-name", "string", "Name in the certificate, as -tls-server-name."),
    _flag("consul-transport-dial-keep-alive", "string", "Taken for compatibility."),
    _flag("consul-transport-dial-timeout", "string", "Taken for compatibility."),
    _flag("consul-transport-disable-keep-alives", "bool", "Taken for compatibility."),
    _flag("consul-transport-max-idle-conns-per-host", "uint", "Taken for compatibility."),
    _flag("consul-transport-tls-handshake-timeout", "string", "Taken for compatibility."),
)

COMMANDS = (
    Command(
        "template",
        "Keep files true to the cluster, and run commands when they change",
        template,
        flags=FLAGS,
        raw=True,
        output=False,
        text="Templates are in the language of consul-template (Go's text/template), or in Jinja2 if their "
        "name ends with .j2. A file is written when all its data is there and only if it differs; the old "
        "file is replaced at one stroke, and put back if the command fails.",
        example=(
            "ctl template --template 'hosts.ctmpl:hosts.out:systemctl reload nginx'",
            "ctl template --template web.ctmpl:web.conf --check 'nginx -t -c {tmp}' --min-instances 2",
            "ctl template --template app.j2:app.conf --once --dry",
            "ctl template --config /etc/ctl/template.hcl --exec /usr/sbin/haproxy",
        ),
    ),
)
