"""Certificates for agents: make an authority and what it signs, and say what a certificate is good for.

The layout is that of `consul tls`: ECDSA P-256, PEM, keys in SEC 1 form, names `server.DC.DOMAIN` (which
`verify_server_hostname` asks for, protocols/rpc.md section 1). `cryptography` is loaded when used."""

from __future__ import annotations

import datetime
import hashlib
from ipaddress import ip_address
from typing import TYPE_CHECKING

from msgspec import Struct

from core.errors import CtlError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

SERVER_AUTH = "1.3.6.1.5.5.7.3.1"
CLIENT_AUTH = "1.3.6.1.5.5.7.3.2"
_BACKDATED = datetime.timedelta(seconds=60)  # for clocks that are behind


class CertificateError(CtlError):
    """A certificate or a key that cannot be read or used; the text says why."""


class Pair(Struct, frozen=True):
    """A certificate and its key, in PEM."""

    certificate: bytes
    key: bytes


class Facts(Struct, frozen=True):
    """What a certificate says. Times are Unix seconds."""

    subject: str
    issuer: str
    dns_names: tuple[str, ...]
    ip_addresses: tuple[str, ...]
    not_before: float
    not_after: float
    is_authority: bool
    usages: tuple[str, ...]  # extended key usages as OIDs; none means any

    def good_for(self, usage: str) -> bool:
        """Whether it may be used as SERVER_AUTH or CLIENT_AUTH."""
        return not self.usages or usage in self.usages

    def covers(self, name: str) -> bool:
        """Whether it is valid for a DNS name."""
        return any(_matches(pattern.lower(), name.lower()) for pattern in self.dns_names)


def _matches(pattern: str, name: str) -> bool:
    if pattern.startswith("*."):
        return name.partition(".")[2] == pattern[2:]
    return pattern == name


def create_authority(
    now: float,
    *,
    days: int,
    domain: str = "consul",
    common_name: str = "",
    cluster_id: str = "",
    permitted: tuple[str, ...] = (),
) -> Pair:
    """A self-signed authority. `permitted`: the only DNS names that it may sign for."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name or f"Agent CA {serial}")])
    builder = _builder(name, name, key, serial, now, days)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(authority=True), critical=True)
    builder = builder.add_extension(_authority_key(key), critical=False)
    if cluster_id:
        uri = x509.UniformResourceIdentifier(f"spiffe://{cluster_id}.{domain}")
        builder = builder.add_extension(x509.SubjectAlternativeName([uri]), critical=False)
    if permitted:
        constraints = x509.NameConstraints([x509.DNSName(each) for each in permitted], None)
        builder = builder.add_extension(constraints, critical=True)
    return Pair(_pem(builder.sign(key, hashes.SHA256())), _key_pem(key))


def create_certificate(
    authority: Pair,
    now: float,
    *,
    days: int,
    common_name: str,
    dns_names: tuple[str, ...],
    ip_addresses: tuple[str, ...] = (),
    server: bool = True,
    client: bool = True,
) -> Pair:
    """A certificate for an agent or a person. CertificateError when the authority cannot sign it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID, ObjectIdentifier

    signer = _load_certificate(authority.certificate)
    signing_key = _load_key(authority.key)
    if signer.public_key() != signing_key.public_key():
        raise CertificateError("the key does not belong to the CA certificate")
    if not facts(authority.certificate).is_authority:
        raise CertificateError("the certificate is not that of an authority (CA)")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = _builder(subject, signer.subject, key, x509.random_serial_number(), now, days)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(authority=False), critical=True)
    usages = [
        ObjectIdentifier(oid) for oid, wanted in ((SERVER_AUTH, server), (CLIENT_AUTH, client)) if wanted
    ]
    builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    builder = builder.add_extension(_authority_key(signing_key), critical=False)
    names: list[x509.GeneralName] = [x509.DNSName(each) for each in dns_names]
    try:
        names += [x509.IPAddress(ip_address(each)) for each in ip_addresses]
    except ValueError as error:
        raise CertificateError(f"not an IP address: {error}") from None
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return Pair(_pem(builder.sign(signing_key, hashes.SHA256())), _key_pem(key))


def facts(pem: bytes) -> Facts:
    """What the first certificate in a PEM file says. CertificateError when there is none."""
    from cryptography import x509

    found = _load_certificate(pem)
    extensions = found.extensions
    dns: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    usages: tuple[str, ...] = ()
    authority = False
    for extension in extensions:
        value = extension.value
        if isinstance(value, x509.SubjectAlternativeName):
            dns = tuple(value.get_values_for_type(x509.DNSName))
            addresses = tuple(str(each) for each in value.get_values_for_type(x509.IPAddress))
        elif isinstance(value, x509.ExtendedKeyUsage):
            usages = tuple(each.dotted_string for each in value)
        elif isinstance(value, x509.BasicConstraints):
            authority = value.ca
    return Facts(
        subject=found.subject.rfc4514_string(),
        issuer=found.issuer.rfc4514_string(),
        dns_names=dns,
        ip_addresses=addresses,
        not_before=found.not_valid_before_utc.timestamp(),
        not_after=found.not_valid_after_utc.timestamp(),
        is_authority=authority,
        usages=usages,
    )


def belongs(certificate: bytes, key: bytes) -> bool:
    """Whether the key is that of the certificate. CertificateError when one cannot be read."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        loaded = load_pem_private_key(key, None)
    except (ValueError, TypeError) as error:
        raise CertificateError(f"cannot read the key: {error}") from None
    return loaded.public_key() == _load_certificate(certificate).public_key()


def signed_by(certificate: bytes, authorities: bytes) -> bool:
    """Whether one of the certificates in `authorities` (PEM) has signed `certificate`, or is it.
    Intermediates that the certificate's own file has after it count too."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    try:
        chain = x509.load_pem_x509_certificates(certificate)
        trusted = x509.load_pem_x509_certificates(authorities)
    except ValueError as error:
        raise CertificateError(f"cannot read the certificates: {error}") from None
    for issued in chain:
        for signer in trusted:
            if issued == signer:
                return True
            try:
                issued.verify_directly_issued_by(signer)
            except (ValueError, TypeError, InvalidSignature):
                continue
            return True
    return False


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: EllipticCurvePrivateKey,
    serial: int,
    now: float,
    days: int,
) -> x509.CertificateBuilder:
    from cryptography import x509

    start = datetime.datetime.fromtimestamp(int(now), datetime.UTC)
    try:
        end = start + datetime.timedelta(days=days)
    except OverflowError:
        raise CertificateError(f"{days} days are beyond the end of the calendar") from None
    if days < 1:
        raise CertificateError("a certificate must be valid for a day at least")
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(start - _BACKDATED)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier(_key_id(key)), critical=False)
    )


def _key_id(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    raw = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(raw).digest()


def _authority_key(key: EllipticCurvePrivateKey) -> x509.AuthorityKeyIdentifier:
    from cryptography import x509

    return x509.AuthorityKeyIdentifier(_key_id(key), None, None)


def _key_usage(authority: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=not authority,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _load_certificate(pem: bytes) -> x509.Certificate:
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise CertificateError(f"cannot read the certificate: {error}") from None


def _load_key(pem: bytes) -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError) as error:
        raise CertificateError(f"cannot read the key: {error}") from None
    if not isinstance(key, EllipticCurvePrivateKey):
        raise CertificateError("the key of the CA must be an elliptic curve key")
    return key


def _pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _key_pem(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
