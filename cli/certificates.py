"""`ctl tls`: certificates for agents, in files named as `consul tls` names them. Never overwrites one."""

from __future__ import annotations

import os
import time

from cli.command import Command, Failure, Flag, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cli.call import Call
    from core.certs import Pair

_WARNING = """\
==> WARNING: Server Certificates grants authority to become a
    server and access all state in the cluster including root keys
    and all ACL tokens. Do not distribute them to production hosts
    that are not server nodes. Store them as securely as CA keys.
"""


def create_authority(call: Call) -> int:
    """`tls ca create`: DOMAIN-agent-ca.pem and its key, in the current folder."""
    from core.certs import CertificateError, create_authority

    domain = call.text("domain", "consul")
    more = tuple(call.many("additional-name-constraint"))
    if more and not call.yes("name-constraint"):
        raise Usage("Error: -additional-name-constraint needs -name-constraint")
    files = (f"{domain}-agent-ca.pem", f"{domain}-agent-ca-key.pem")
    for path in files:
        if os.path.lexists(path):
            raise Failure(f"{path} already exists.", kind="conflict")
    try:
        pair = create_authority(
            time.time(),
            days=call.number("days", 1825),
            domain=domain,
            common_name=call.text("common-name"),
            cluster_id=call.text("cluster-id"),
            permitted=(*more, domain, "localhost") if call.yes("name-constraint") else (),
        )
    except CertificateError as error:
        raise Failure(f"Error: {error}") from None
    _write_pair(call, pair, files)
    return 0


def create_certificate(call: Call) -> int:
    """`tls cert create -server|-client|-cli`: the first number that is free goes into the names."""
    from core.certs import CertificateError, create_certificate

    kinds = [kind for kind in ("server", "client", "cli") if call.yes(kind)]
    if len(kinds) != 1:
        raise Usage("Please provide either -server, -client, or -cli")
    kind = kinds[0]
    if call.text("node") and kind != "server":
        raise Usage("-node requires -server")
    domain, datacenter = call.text("domain", "consul"), call.text("dc", "dc1")
    authority, used = _authority(call, domain)
    name = f"{kind}.{datacenter}.{domain}"
    node = (f"{call.text('node')}.{name}",) if call.text("node") else ()
    extra = tuple(call.many("additional-dnsname"))
    addresses = tuple(call.many("additional-ipaddress"))
    files = _free_files(f"{datacenter}-{kind}-{domain}")
    if not (call.out.structured or call.out.quiet):
        call.out.write((_WARNING if kind == "server" else "") + f"==> Using {used[0]} and {used[1]}\n")
    try:
        pair = create_certificate(
            authority,
            time.time(),
            days=call.number("days", 365),
            common_name=name,
            dns_names=(*extra, *node, name, "localhost"),
            ip_addresses=addresses if kind == "cli" else (*addresses, "127.0.0.1"),
            server=kind != "cli",
        )
    except CertificateError as error:
        raise Failure(f"Error: {error}") from None
    _write_pair(call, pair, files)
    return 0


def _authority(call: Call, domain: str) -> tuple[Pair, tuple[str, str]]:
    """The authority's certificate and key, and the files they came from."""
    from cli.client import error_text
    from core.certs import Pair

    paths = (
        call.text("ca", "#DOMAIN#-agent-ca.pem").replace("#DOMAIN#", domain),
        call.text("key", "#DOMAIN#-agent-ca-key.pem").replace("#DOMAIN#", domain),
    )
    contents = []
    for path, what in zip(paths, ("CA", "CA key"), strict=True):
        try:
            with open(path, "rb") as file:
                contents.append(file.read())
        except OSError as error:
            hint = "`ctl tls ca create` makes one."
            text = f"Error reading {what}: open {path}: {error_text(error)}"
            raise Failure(text, kind="missing", hint=hint) from None
    return Pair(*contents), paths


def _free_files(prefix: str) -> tuple[str, str]:
    number = 0
    while True:
        files = (f"{prefix}-{number}.pem", f"{prefix}-{number}-key.pem")
        if not any(os.path.lexists(path) for path in files):
            return files
        number += 1


def _write_pair(call: Call, pair: Pair, files: tuple[str, str]) -> None:
    """Both files, or none. The key's first byte is written to a file that only its owner can read."""
    from cli.client import error_text

    made: list[str] = []
    try:
        for path, data, mode in ((files[0], pair.certificate, 0o644), (files[1], pair.key, 0o600)):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            made.append(path)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
    except FileExistsError:
        _remove(made)
        raise Failure(f"{path} already exists.", kind="conflict") from None
    except OSError as error:
        _remove(made)
        raise Failure(f"Error: cannot write {path}: {error_text(error)}") from None
    if call.out.structured:
        call.out.document({"Certificate": files[0], "Key": files[1]})
        return
    for path in files:
        call.out.line(path if call.out.quiet else f"==> Saved {path}")


def _remove(paths: list[str]) -> None:
    for path in paths:
        os.unlink(path)


COMMANDS = (
    Command(
        "tls ca create",
        "Make a certificate authority for agents",
        create_authority,
        flags=(
            Flag("days", "int", "How long it is valid.", default="1825"),
            Flag("domain", "string", "DNS domain of the cluster.", default="consul"),
            Flag("common-name", "string", "Common name of its subject."),
            Flag("cluster-id", "string", "Cluster id for a SPIFFE name."),
            Flag("name-constraint", "bool", "It may sign for its domain and localhost only."),
            Flag("additional-name-constraint", "list", "One more DNS name that it may sign for (repeat)."),
        ),
        text="Writes DOMAIN-agent-ca.pem and DOMAIN-agent-ca-key.pem to the current folder. Agents need the\n"
        "first; keep the second away from them.",
        example=("ctl tls ca create", "ctl tls ca create -domain=example -days=3650"),
        connects=False,
        extra=True,
    ),
    Command(
        "tls cert create",
        "Make a certificate for a server, a client agent, or the command line",
        create_certificate,
        flags=(
            Flag("server", "bool", "For a server: name server.DC.DOMAIN."),
            Flag("client", "bool", "For a client agent."),
            Flag("cli", "bool", "For this command line."),
            Flag("ca", "string", "The CA.", default="#DOMAIN#-agent-ca.pem", complete="files"),
            Flag("key", "string", "Its key.", default="#DOMAIN#-agent-ca-key.pem", complete="files"),
            Flag("dc", "string", "Datacenter.", default="dc1"),
            Flag("domain", "string", "DNS domain of the cluster.", default="consul"),
            Flag("days", "int", "How long it is valid.", default="365"),
            Flag("node", "string", "Also NODE.server.DC.DOMAIN; for servers."),
            Flag("additional-dnsname", "list", "One more DNS name (repeat)."),
            Flag("additional-ipaddress", "list", "One more IP address (repeat)."),
        ),
        text="Writes DC-KIND-DOMAIN-N.pem and its key to the current folder, with the first N that is free.",
        example=("ctl tls cert create -server", "ctl tls cert create -client -dc=dc2"),
        connects=False,
        extra=True,
    ),
)
