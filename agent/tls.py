"""TLS contexts from the configuration: HTTPS now; RPC between agents uses the same files."""

from __future__ import annotations

from typing import TYPE_CHECKING

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


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """A context for a listener. ConfigError names the file that cannot be used."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    version = _VERSIONS.get(files.min_version or "tls12")
    if version is None:
        known = "tls10, tls11, tls12, tls13"
        raise ConfigError(f"tls_min_version: unknown version {files.min_version!r}; known: {known}")
    context.minimum_version = ssl.TLSVersion[version]
    if files.cipher_suites:
        try:
            context.set_ciphers(files.cipher_suites.replace(",", ":"))
        except ssl.SSLError as error:
            raise ConfigError(f"tls_cipher_suites: {error}") from None
    load(context, files)
    return context


def load(context: ssl.SSLContext, files: TlsFiles) -> None:
    """Read certificate, key and CA into a context; connections made from now on use them."""
    import ssl

    try:
        context.load_cert_chain(files.cert_file, files.key_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"cannot use certificate {files.cert_file} with key {files.key_file}: {error}"
        ) from None
    if not files.verify_incoming:
        context.verify_mode = ssl.CERT_NONE
        return
    if not (files.ca_file or files.ca_path):
        raise ConfigError("VerifyIncoming set, and no CA certificate provided!")
    try:
        context.load_verify_locations(files.ca_file or None, files.ca_path or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"cannot use CA {files.ca_file or files.ca_path}: {error}") from None
    context.verify_mode = ssl.CERT_REQUIRED


def days_left(cert_file: str, wall: float) -> float:
    """Days until the certificate expires, below 0 when it has. `wall` is Unix seconds."""
    from cryptography import x509

    with open(cert_file, "rb") as file:
        certificate = x509.load_pem_x509_certificate(file.read())
    return (certificate.not_valid_after_utc.timestamp() - wall) / 86400
