"""`ctl doctor`: whether this agent can call every server, and if not, which rule of which side says no."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cli import doctorprobe
from cli.doctorfacts import ALIVE, FAIL, LEFT, OK, SKIP, WARN, Facts, Finding, Server

if TYPE_CHECKING:
    from cli.doctorprobe import Rpc


def check_rpc(facts: Facts) -> Iterator[Finding]:
    """Every server of the datacenter, the agent's own port included."""
    servers = [server for server in facts.servers if server.status != LEFT]
    if not servers:
        fix = "give -retry-join the address of a server; `ctl join ADDRESS` tries one now"
        yield Finding(FAIL, "rpc", "this agent knows no server", fix)
        return
    context, problem = _context(facts)
    if facts.encrypts_calls and context is None:
        yield Finding(SKIP, "rpc", f"the agent calls with TLS, which cannot be tried from here: {problem}")
        return
    for server in servers:
        if server.status == ALIVE:
            yield _server(facts, server, context)


def _server(facts: Facts, server: Server, context: ssl.SSLContext | None) -> Finding:
    where = f"{server.name} ({server.address}:{server.port})"
    if context is None:
        result = doctorprobe.call_plain(server.address, server.port)
    else:
        name = server_name(facts, server) if facts.tls("VerifyServerHostname") else ""
        result = doctorprobe.call_tls(server.address, server.port, context, name)
    if not result.failed:
        how = "with TLS" if context is not None else "without TLS"
        text = f"{where} answers {how} in {result.seconds * 1000:.1f} ms"
        if server.rpc.startswith("failed"):
            fix = "if it stays so: `ctl monitor` shows why the agent's own calls fail"
            return Finding(WARN, "rpc", f"{text}, but the agent says of its calls: {server.rpc}", fix)
        return Finding(OK, "rpc", text)
    text, fix = explain(facts, server, result)
    return Finding(FAIL, "rpc", f"{where}: {text}", fix)


def server_name(facts: Facts, server: Server) -> str:
    """The name that verify_server_hostname asks for."""
    return f"server.{server.datacenter or facts.datacenter}.{facts.domain}"


def explain(facts: Facts, server: Server, result: Rpc) -> tuple[str, str]:
    """What is wrong, and which side is to change what."""
    if result.failed == "dial":
        text = f"TCP port {server.port} cannot be reached: {result.detail}"
        fix = f"let TCP port {server.port} through to {server.address}; gossip alone is not enough"
        return text, doctorprobe.remedy(result.detail, fix)
    if result.failed == "reply":
        return f"it answers with an error: {result.detail}", "look at that server's log"
    if facts.encrypts_calls:
        return _explain_tls(facts, server, result)
    anybody = _anybody(facts)
    spoken = doctorprobe.call_tls(server.address, server.port, anybody, "")
    if spoken.certificate is not None or spoken.failed == "alert":
        text = "it closes calls without TLS: verify_incoming is set there, verify_outgoing is not set here"
        return text, (
            f"on {facts.node} set verify_outgoing = true with ca_file, cert_file and key_file; "
            f"or on {server.name} switch verify_incoming off until all agents have that"
        )
    return f"calls without TLS fail: {result.detail}", "look at that server's log for the reason"


def _explain_tls(facts: Facts, server: Server, result: Rpc) -> tuple[str, str]:
    here, there = facts.node, server.name
    if result.failed == "verify":
        return _explain_certificate(facts, server, result.detail)
    # With TLS 1.3 the other side refuses after our handshake is done: by an alert, or it just closes.
    if result.failed == "alert" or (result.failed == "closed" and result.certificate is not None):
        text = f"it refuses this agent's certificate ({result.detail}): verify_incoming is set there"
        if not facts.tls("CertFile"):
            return text, f"on {here} set cert_file and key_file: it shows no certificate now"
        cert = facts.tls("CertFile")
        return text, f"make {cert} of {here} one that an authority in ca_file of {there} has signed"
    if not doctorprobe.call_plain(server.address, server.port).failed:
        text = "it does not speak TLS: it has no certificate, and verify_outgoing is set here"
        return text, (
            f"on {there} set cert_file, key_file and ca_file (verify_incoming can wait); "
            f"or on {here} switch verify_outgoing off until all servers have that"
        )
    return f"the TLS handshake fails: {result.detail}", "look at that server's log for the reason"


def _explain_certificate(facts: Facts, server: Server, detail: str) -> tuple[str, str]:
    """This side does not accept the server's certificate."""
    here, there = facts.node, server.name
    shown = doctorprobe.certificate_of(server.address, server.port, _anybody(facts))
    wanted = server_name(facts, server)
    if "ostname" in detail:
        names = ", ".join(shown.dns_names) if shown else "none"
        text = f"its certificate is for {names or 'no name'}, verify_server_hostname here wants {wanted}"
        return text, f"on {there} use a certificate for {wanted}: `ctl tls cert create -server`"
    issuer = f" It was issued by {shown.issuer}." if shown else ""
    if "expired" in detail or "not yet valid" in detail:
        return f"its certificate: {detail}", f"renew cert_file of {there}, and compare the clocks of both"
    authority = facts.tls("CAFile") or facts.tls("CAPath")
    text = f"its certificate is not trusted here: {detail}.{issuer}"
    return text, f"put the authority of {there}'s certificate into {authority} of {here}, or use the same one"


def _context(facts: Facts) -> tuple[ssl.SSLContext | None, str]:
    """What the agent verifies servers with; None when it calls without TLS, or with the reason why its
    files cannot be used from here."""
    if not facts.encrypts_calls:
        return None, ""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = bool(facts.tls("VerifyServerHostname"))
    try:
        for path in _authorities(facts):
            context.load_verify_locations(path)
        if facts.tls("CertFile") and facts.tls("KeyFile"):
            context.load_cert_chain(facts.tls("CertFile"), facts.tls("KeyFile"))
    except (OSError, ssl.SSLError) as error:
        return None, f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
    return context, ""


def _authorities(facts: Facts) -> list[str]:
    paths = [facts.tls("CAFile")] if facts.tls("CAFile") else []
    folder = facts.tls("CAPath")
    if folder:
        paths += [os.path.join(folder, name) for name in sorted(os.listdir(folder))]
    return paths


def _anybody(facts: Facts) -> ssl.SSLContext:
    """For looking at a server whoever it is; nothing secret goes over such a connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if facts.tls("CertFile") and facts.tls("KeyFile"):
        try:
            context.load_cert_chain(facts.tls("CertFile"), facts.tls("KeyFile"))
        except (OSError, ssl.SSLError):
            return context  # without one, then
    return context
