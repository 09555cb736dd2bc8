"""Short usage for stderr, after an error. The full pages are in `cli/help.py`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cli.command import Command, Flag

# What the words of the top level are about, in the order of the help page.
SUMMARIES = {
    "agent": "Run the agent, or look after a running one",
    "members": "Who is in the cluster",
    "join": "Join a cluster",
    "leave": "Leave the cluster and stop the agent",
    "force-leave": "Push a failed member out",
    "rtt": "Estimated round trip time between two nodes",
    "kv": "Read and write keys",
    "services": "Services and their health",
    "checks": "Health checks",
    "nodes": "Nodes and their health",
    "catalog": "The catalog, as Consul's commands show it",
    "dc": "Datacenters",
    "event": "Fire and list user events",
    "query": "Prepared queries, and questions to all agents",
    "watch": "Run a command, or print, on every change",
    "wait": "Wait for something to be so, in a script",
    "changes": "What happens in the cluster, in order",
    "template": "Keep files true to the cluster, and run commands",
    "env": "Run a command with an environment from the KV store",
    "exec": "Run actions that agents have in their configuration",
    "session": "Sessions, which hold locks",
    "lock": "Run a command while holding a lock",
    "config": "Config entries, and the settings of the agent",
    "connect": "Service mesh: ctl has none",
    "intention": "Service mesh: ctl has none",
    "acl": "Tokens, policies, roles, and why something was refused",
    "login": "Get a token for a credential",
    "logout": "Destroy the token that login got",
    "operator": "Raft's servers and autopilot",
    "raft": "Raft's servers",
    "snapshot": "Save, look into and restore the whole state",
    "top": "Watch members, servers, services and events live",
    "info": "Counters of the agent",
    "reload": "Read the configuration again",
    "maint": "Maintenance mode",
    "monitor": "Follow the agent's log",
    "debug": "An archive for a support case",
    "validate": "Check configuration files",
    "keygen": "Make a gossip encryption key",
    "keyring": "Keys of gossip encryption",
    "tls": "Certificates for agents",
    "dev": "A cluster on this machine, to try things",
    "doctor": "Find out what is wrong, and what to change",
    "version": "Versions of ctl and of the API it keeps",
    "completions": "Shell completion",
    "help": "Help on a command",
}

# What the groups inside groups are about.
SUBGROUPS = {
    "operator raft": "The servers that Raft counts",
    "operator autopilot": "Care for the servers",
    "operator usage": "How much is registered",
    "connect ca": "The certificate authority of a mesh",
    "tls ca": "The certificate authority",
    "tls cert": "Certificates that it signs",
    "acl token": "What programs and people show to be let in",
    "acl policy": "Rules under a name",
    "acl role": "Policies and identities under a name",
    "acl auth-method": "Who may log in",
    "acl binding-rule": "What a login gets",
    "acl templated-policy": "Rules made for a service or a node",
}


def synopsis(command: Command, name: str = "ctl") -> str:
    """`ctl kv put [options] KEY [DATA]`."""
    words = [name, command.path, "[options]"]
    for argument in command.arguments:
        word = argument.name + "..." if argument.many else argument.name
        words.append(word if argument.required else f"[{word}]")
    return " ".join(words)


def flag_label(flag: Flag) -> str:
    """`-o, --format=string` as help shows it."""
    kind = {"uint": "number", "int": "number", "list": "string", "map": "k=v"}.get(flag.kind, flag.kind)
    value = "" if flag.kind == "bool" else f"=<{'|'.join(flag.choices) or kind}>"
    short = f"-{flag.short}, " if flag.short else ""
    return f"{short}--{flag.name}{value}"


def command_usage(command: Command) -> str:
    """Synopsis and flags of one command."""
    lines = [f"Usage: {synopsis(command)}", ""]
    for flag in command.all_flags():
        if not flag.hidden:
            default = f" (default {flag.default})" if flag.default else ""
            lines += [f"  {flag_label(flag)}", f"      {flag.help}{default}"]
    return "\n".join(lines) + "\n"


def group_usage(group: str, commands: Mapping[str, Command], name: str, unknown: str = "") -> str:
    """The commands of one group, after a line on the word that is none of them."""
    shown = [c for path, c in commands.items() if path.startswith(group + " ")]
    width = max([len(command.path) for command in shown])
    lines = []
    if unknown:
        depth = group.count(" ") + 1
        words = dict.fromkeys([command.path.split()[depth] for command in shown])
        lines += [_no_such(name, group, unknown, words), ""]
    lines += [f"Usage: {name} {group} <command> [options] [arguments]", "", "Commands:"]
    lines += [f"  {command.path.ljust(width)}  {command.summary}" for command in shown]
    return "\n".join(lines) + "\n"


def _no_such(name: str, group: str, unknown: str, words: Iterable[str]) -> str:
    """That a word is no command, and which one may have been meant."""
    import difflib

    above = f"{group} " if group else ""
    text = f'Error: no such command: "{above}{unknown}"'
    near = difflib.get_close_matches(unknown, list(words), 1)
    return text + (f"; did you mean `{name} {above}{near[0]}`?" if near else "")


def unknown_command(name: str, unknown: str) -> str:
    """For a person, whose screen a list of all commands would fill."""
    return f"{_no_such(name, '', unknown, SUMMARIES)}\n`{name} --help` lists the commands.\n"


def tree_usage(name: str, unknown: str = "") -> str:
    """All commands, after a line on the word that is none."""
    lines = [_no_such(name, "", unknown, SUMMARIES), ""] if unknown else []
    lines += [f"Usage: {name} [--version] [--help] <command> [options] [arguments]", "", "Commands:"]
    width = max(map(len, SUMMARIES))
    lines += [f"  {word.ljust(width)}  {text}" for word, text in SUMMARIES.items()]
    lines += [
        "",
        f"`{name} <command> --help` shows its flags; `{name} agent start --dev` starts an agent to try.",
    ]
    return "\n".join(lines) + "\n"
