"""`ctl doctor`: the certificate files that the configuration names."""

from __future__ import annotations

import time
from collections.abc import Iterator

from cli.client import error_text
from cli.doctorfacts import FAIL, OK, SKIP, WARN, Facts, Finding
from core import certs
from core.certs import CertificateError

SOON = 30 * 86400.0  # seconds before the end in which one should act


def check_certificates(facts: Facts) -> Iterator[Finding]:
    """Certificate, key and authority between agents: readable, fitting, named, and valid for a while."""
    paths = {name: facts.tls(name) for name in ("CAFile", "CertFile", "KeyFile")}
    if not any(paths.values()):
        yield from _without(facts)
        return
    if not facts.local:
        yield Finding(SKIP, "certificates", "the agent runs elsewhere, so its files cannot be read")
        return
    contents: dict[str, bytes] = {}
    for name, path in paths.items():
        if path:
            try:
                with open(path, "rb") as file:
                    contents[name] = file.read()
            except PermissionError:
                yield Finding(SKIP, "certificates", f"{path}: not readable for this user")
            except OSError as error:
                yield Finding(FAIL, "certificates", f"{path}: {error_text(error)}", "correct the path")
    if "CAFile" in contents:
        yield from _authority(paths["CAFile"], contents["CAFile"])
    if "CertFile" in contents:
        yield from _certificate(facts, paths, contents)
    if facts.tls("CertFile") and not facts.encrypts_calls:
        fix = "set verify_outgoing = true too; a certificate alone encrypts nothing"
        yield Finding(WARN, "certificates", "calls go out without TLS although there is a certificate", fix)


def _without(facts: Facts) -> Iterator[Finding]:
    if facts.encrypts_calls or facts.tls("VerifyIncoming"):
        fix = "set ca_file, cert_file and key_file"
        yield Finding(FAIL, "certificates", "TLS is asked for, but no file is named", fix)
    else:
        yield Finding(SKIP, "certificates", "none are configured: agents talk without TLS")


def _authority(path: str, data: bytes) -> Iterator[Finding]:
    try:
        found = certs.facts(data)
    except CertificateError as error:
        yield Finding(FAIL, "certificates", f"{path}: {error}", "it must hold certificates in PEM")
        return
    if not found.is_authority:
        text = f"{path} is not the certificate of an authority: {found.subject}"
        yield Finding(FAIL, "certificates", text, "ca_file must name the CA that signed the certificates")
    yield _validity(path, found)


def _certificate(facts: Facts, paths: dict[str, str], contents: dict[str, bytes]) -> Iterator[Finding]:
    path, data = paths["CertFile"], contents["CertFile"]
    try:
        found = certs.facts(data)
        yield _validity(path, found)
        if "KeyFile" in contents and not certs.belongs(data, contents["KeyFile"]):
            text = f"{paths['KeyFile']} is not the key of {path}"
            yield Finding(FAIL, "certificates", text, "key_file must belong to cert_file")
        if "CAFile" in contents and not certs.signed_by(data, contents["CAFile"]):
            text = f"{path} is not signed by {paths['CAFile']}, but by {found.issuer}"
            yield Finding(
                FAIL, "certificates", text, "use the CA that signed it, or have it signed by this one"
            )
    except CertificateError as error:
        yield Finding(FAIL, "certificates", f"{path}: {error}", "it must be a certificate in PEM")
        return
    yield from _purpose(facts, path, found)


def _validity(path: str, found: certs.Facts) -> Finding:
    now = time.time()
    until = time.strftime("%Y-%m-%d", time.gmtime(found.not_after))
    if now > found.not_after:
        return Finding(FAIL, "certificates", f"{path} expired on {until}", "renew it, then `ctl reload`")
    if now < found.not_before:
        since = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(found.not_before))
        return Finding(FAIL, "certificates", f"{path} is valid from {since} on", "set this machine's clock")
    if found.not_after - now < SOON:
        return Finding(WARN, "certificates", f"{path} expires on {until}", "renew it, then `ctl reload`")
    return Finding(OK, "certificates", f"{path} is valid until {until}")


def _purpose(facts: Facts, path: str, found: certs.Facts) -> Iterator[Finding]:
    """Whether the others can accept it for what this agent does."""
    wanted = f"server.{facts.datacenter}.{facts.domain}"
    if facts.is_server and not found.covers(wanted):
        names = ", ".join(found.dns_names) or "no name"
        text = (
            f"{path} is for {names}, not for {wanted}: agents with verify_server_hostname refuse this server"
        )
        status = FAIL if facts.tls("VerifyServerHostname") else WARN
        yield Finding(status, "certificates", text, f"`ctl tls cert create -server -dc={facts.datacenter}`")
    elif facts.is_server:
        yield Finding(OK, "certificates", f"{path} is for {wanted}")
    if not found.good_for(certs.CLIENT_AUTH):
        text = f"{path} may not be used to call others: servers with verify_incoming refuse it"
        yield Finding(FAIL, "certificates", text, "it needs the extended key usage clientAuth")
    if facts.is_server and not found.good_for(certs.SERVER_AUTH):
        text = f"{path} may not be used by a server: agents with verify_outgoing refuse it"
        yield Finding(FAIL, "certificates", text, "it needs the extended key usage serverAuth")
