"""TLS for the client, loaded only when an address says https."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING

from cli.client import ConnectError, DialError, boolean, error_text, reading

if TYPE_CHECKING:
    import _socket


def wrap(raw: _socket.socket, host: str, setting: Callable[[str, str], str], timeout: float) -> ssl.SSLSocket:
    """Turn a connection into a TLS one under the settings of flags and environment."""
    context = _context(setting)
    plain = socket.socket(fileno=raw.detach())
    plain.settimeout(timeout)
    name = setting("tls-server-name", "TLS_SERVER_NAME") or host
    try:
        secure = context.wrap_socket(plain, server_hostname=name)
    except ssl.SSLCertVerificationError as error:
        plain.close()
        raise DialError(f"tls: failed to verify certificate: {error.verify_message}") from None
    except (OSError, ValueError) as error:
        plain.close()
        text = error.reason if isinstance(error, ssl.SSLError) else str(error)
        if text in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
            raise DialError("http: server gave HTTP response to HTTPS client") from None
        raise DialError(f"tls: handshake failed: {text}") from None
    secure.settimeout(None)
    return secure


def _context(setting: Callable[[str, str], str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    authorities = setting("ca-file", "CACERT")
    folder = setting("ca-path", "CAPATH")
    if authorities or folder:
        _trust(context, authorities, folder)
    else:
        context.load_default_certs()
    certificate, key = setting("client-cert", "CLIENT_CERT"), setting("client-key", "CLIENT_KEY")
    if certificate or key:
        _identify(context, certificate, key)
    if not boolean(setting("", "HTTP_SSL_VERIFY"), "HTTP_SSL_VERIFY", default=True):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _trust(context: ssl.SSLContext, file: str, folder: str) -> None:
    """Trust a file of certificates, or every certificate in a folder (whatever the names, as Consul)."""
    if file:
        _add(context, file, "File")
        return
    import os

    try:
        entries = sorted(os.listdir(folder))
    except OSError as error:
        raise ConnectError(f"lstat {folder}: {error_text(error)}") from None
    for entry in entries:
        _add(context, os.path.join(folder, entry), "Path")


def _add(context: ssl.SSLContext, file: str, what: str) -> None:
    try:
        context.load_verify_locations(cafile=file)
    except ssl.SSLError:
        raise ConnectError(f"Error loading CA {what}: Couldn't parse PEM in: {file}") from None
    except OSError as error:
        raise ConnectError(f"Error loading CA {what}: {reading(file, error)}") from None


def _identify(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Show a certificate of our own."""
    if not (certificate and key):
        raise ConnectError("both client cert and client key must be provided")
    for path in (certificate, key):
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            raise ConnectError(reading(path, error)) from None
    try:
        context.load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        raise ConnectError(f"tls: cannot use {certificate} with {key}: {error.reason or error}") from None
