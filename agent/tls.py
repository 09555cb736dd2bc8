"""TLS contexts from the configuration: HTTPS, and RPC between agents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.config.ciphers import openssl_names
from core.errors import ConfigError

if TYPE_CHECKING:
    import ssl

_VERSIONS = {
    "tls10": "TLSv1",
    "tls11": "TLSv1_1",
    "tls12": "TLSv1_2",
    "tls13": "TLSv1_3",
    "TLSv1_0": "TLSv1",
    "TLSv1_1": "TLSv1_1",
    "TLSv1_2": "TLSv1_2",
    "TLSv1_3": "TLSv1_3",
}


class TlsFiles:
    """Where certificates lie and what is demanded of the other side."""

    def __init__(
        self,
        *,
        cert_file: str,
        key_file: str,
        ca_file: str = "",
        ca_path: str = "",
        verify_incoming: bool = False,
        min_version: str = "",
        cipher_suites: str = "",
    ) -> None:
        self.cert_file, self.key_file = cert_file, key_file
        self.ca_file, self.ca_path = ca_file, ca_path
        self.verify_incoming = verify_incoming
        self.min_version = min_version
        self.cipher_suites = cipher_suites

    @property
    def complete(self) -> bool:
        """Whether a server can be made of it: certificate and key are both named."""
        return bool(self.cert_file and self.key_file)

    @property
    def has_authority(self) -> bool:
        """Whether there is somebody whose signature counts."""
        return bool(self.ca_file or self.ca_path)


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """A context for a listener. ConfigError names the file that cannot be used."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _restrict(context, files)
    load(context, files)
    return context


def _restrict(context: ssl.SSLContext, files: TlsFiles) -> None:
    """Versions and ciphers as configured."""
    import ssl

    version = _VERSIONS.get(files.min_version or "tls12")
    if version is None:
        known = "tls10, tls11, tls12, tls13"
        raise ConfigError(f"tls_min_version: unknown version {files.min_version!r}; known: {known}")
    context.minimum_version = ssl.TLSVersion[version]
    if files.cipher_suites:
        try:
            context.set_ciphers(openssl_names(files.cipher_suites))
        except ssl.SSLError as error:
            raise ConfigError(f"tls_cipher_suites: {error}") from None


def load(context: ssl.SSLContext, files: TlsFiles) -> None:
    """Read certificate, key and CA into a context; connections made from now on use them."""
    import ssl

    _load_own(context, files)
    if not files.verify_incoming:
        context.verify_mode = ssl.CERT_NONE
        return
    _load_authorities(context, files, "VerifyIncoming")
    context.verify_mode = ssl.CERT_REQUIRED


def _load_own(context: ssl.SSLContext, files: TlsFiles) -> None:
    import ssl

    try:
        context.load_cert_chain(files.cert_file, files.key_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"cannot use certificate {files.cert_file} with key {files.key_file}: {error}"
        ) from None


def _load_authorities(context: ssl.SSLContext, files: TlsFiles, wanted_by: str) -> None:
    import ssl

    if not files.has_authority:
        raise ConfigError(f"{wanted_by} set, and no CA certificate provided!")
    try:
        for path in _authority_files(files.ca_path):
            context.load_verify_locations(path)
        if files.ca_file:
            context.load_verify_locations(files.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"cannot use CA {files.ca_file or files.ca_path}: {error}") from None


def _authority_files(folder: str) -> list[str]:
    """All files of `ca_path`: as in Consul their names say nothing (OpenSSL would want hashes)."""
    import os

    if not folder:
        return []
    paths = (os.path.join(folder, name) for name in sorted(os.listdir(folder)))
    return [path for path in paths if os.path.isfile(path)]


class RpcTls:
    """TLS between agents (protocols/rpc.md section 1). The contexts are replaced by `reload`, so that
    connections made from then on use the new certificates."""

    incoming: ssl.SSLContext | None
    """For connections that begin with byte 3; None without a certificate."""
    native: ssl.SSLContext | None
    """For connections that begin with TLS; these always need a client certificate."""

    def __init__(
        self,
        files: TlsFiles,
        *,
        verify_outgoing: bool,
        verify_server_hostname: bool,
        domain: str,
        alpn: list[str],
    ) -> None:
        """ConfigError when a file cannot be used, or one is missing for what is to be verified."""
        self._verify_hostname = verify_server_hostname
        self._encrypts = verify_outgoing or verify_server_hostname
        self._domain = domain.removesuffix(".")
        self._alpn = alpn
        self.reload(files)

    def reload(self, files: TlsFiles) -> None:
        """Read the files anew; ConfigError, and all as before, when one of them cannot be used."""
        if files.verify_incoming and not files.complete:
            raise ConfigError("VerifyIncoming set, and no Cert/Key pair provided!")
        incoming = self._incoming_context(files) if files.complete else None
        native = self._native_context(files) if files.complete and files.has_authority else None
        outgoing = self._outgoing_context(files) if self._encrypts else None
        self.incoming, self.native, self._outgoing = incoming, native, outgoing
        self.verify_incoming = files.verify_incoming

    def outgoing(self, datacenter: str) -> tuple[ssl.SSLContext, str] | None:
        """Context and server name ("" for none) for connections to a server of `datacenter`; None when
        connections are not encrypted."""
        if self._outgoing is None:
            return None
        return self._outgoing, f"server.{datacenter}.{self._domain}" if self._verify_hostname else ""

    @staticmethod
    def _incoming_context(files: TlsFiles) -> ssl.SSLContext:
        from agent.rpc import SNAPSHOT
        from agent.tls_halves import halves

        context = server_context(files)
        context.sslobject_class = halves(SNAPSHOT)
        return context

    def _native_context(self, files: TlsFiles) -> ssl.SSLContext:
        import ssl

        context = server_context(files)
        _load_authorities(context, files, "VerifyIncoming")
        context.verify_mode = ssl.CERT_REQUIRED
        context.set_alpn_protocols(self._alpn)
        return context

    def _outgoing_context(self, files: TlsFiles) -> ssl.SSLContext:
        import ssl

        from agent.tls_halves import halves

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.sslobject_class = halves(None)
        context.check_hostname = self._verify_hostname
        _restrict(context, files)
        _load_authorities(context, files, "VerifyOutgoing")
        if files.complete:
            _load_own(context, files)
        return context


def days_left(cert_file: str, wall: float) -> float:
    """Days until the certificate expires, below 0 when it has. `wall` is Unix seconds."""
    from cryptography import x509

    with open(cert_file, "rb") as file:
        certificate = x509.load_pem_x509_certificate(file.read())
    return (certificate.not_valid_after_utc.timestamp() - wall) / 86400
