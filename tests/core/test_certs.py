"""Certificates: what they are for, and that TLS itself accepts them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.certs import (
    CLIENT_AUTH,
    SERVER_AUTH,
    CertificateError,
    Pair,
    belongs,
    create_authority,
    create_certificate,
    facts,
    signed_by,
)

NOW = 1_790_000_000.25
DAY = 86400
NAME = "server.dc1.consul"


@pytest.fixture(scope="module")
def authority():
    return create_authority(NOW, days=10)


def certificate(authority, **options):
    given = {
        "days": 2,
        "common_name": NAME,
        "dns_names": (NAME, "localhost"),
        "ip_addresses": ("127.0.0.1", "::1"),
    }
    return create_certificate(authority, NOW, **{**given, **options})


def test_authority(authority):
    found = facts(authority.certificate)
    assert found.is_authority
    assert found.subject == found.issuer
    assert found.not_after == int(NOW) + 10 * DAY
    assert found.not_before <= NOW
    assert belongs(authority.certificate, authority.key)
    assert signed_by(authority.certificate, authority.certificate)
    assert facts(create_authority(NOW, days=1, common_name="Ours").certificate).subject == "CN=Ours"


def test_certificate(authority):
    pair = certificate(authority)
    found = facts(pair.certificate)
    assert not found.is_authority
    assert (found.dns_names, found.ip_addresses) == ((NAME, "localhost"), ("127.0.0.1", "::1"))
    assert found.issuer == facts(authority.certificate).subject
    assert found.good_for(SERVER_AUTH)
    assert found.good_for(CLIENT_AUTH)
    assert signed_by(pair.certificate, authority.certificate)
    assert belongs(pair.certificate, pair.key)
    assert not belongs(pair.certificate, authority.key)
    other = create_authority(NOW, days=1)
    assert not signed_by(pair.certificate, other.certificate)
    assert signed_by(pair.certificate, other.certificate + authority.certificate)
    only_client = facts(certificate(authority, server=False).certificate)
    assert only_client.good_for(CLIENT_AUTH)
    assert not only_client.good_for(SERVER_AUTH)
    assert b"BEGIN EC PRIVATE KEY" in pair.key


def test_names(authority):
    found = facts(certificate(authority, dns_names=("*.dc1.consul", "A.example")).certificate)
    assert found.covers("server.dc1.consul")
    assert found.covers("a.EXAMPLE")
    assert not found.covers("a.server.dc1.consul")
    assert not found.covers("dc1.consul")


def test_constraints_and_spiffe():
    from cryptography import x509

    pair = create_authority(NOW, days=1, cluster_id="abc", permitted=("consul", "localhost"))
    found = x509.load_pem_x509_certificate(pair.certificate).extensions
    constraints = found.get_extension_for_class(x509.NameConstraints)
    assert constraints.critical
    assert [name.value for name in constraints.value.permitted_subtrees] == ["consul", "localhost"]
    names = found.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://abc.consul"]


def test_refusals(authority):
    leaf = certificate(authority)
    with pytest.raises(CertificateError, match="does not belong to the CA"):
        certificate(Pair(authority.certificate, leaf.key))
    with pytest.raises(CertificateError, match="not that of an authority"):
        certificate(leaf)
    with pytest.raises(CertificateError, match="not an IP address"):
        certificate(authority, ip_addresses=("127.0.0.300",))
    with pytest.raises(CertificateError, match="a day at least"):
        certificate(authority, days=0)
    with pytest.raises(CertificateError, match="calendar"):
        create_authority(NOW, days=10**7)
    with pytest.raises(CertificateError, match="days"):
        create_authority(NOW, days=10**10)


@settings(max_examples=50)
@given(data=st.binary(max_size=200))
def test_garbage_is_refused(data):
    pair = _PAIR
    for call in (
        lambda: facts(data),
        lambda: belongs(pair.certificate, data),
        lambda: signed_by(data, pair.certificate),
        lambda: certificate(Pair(data, pair.key)),
        lambda: certificate(Pair(pair.certificate, data)),
    ):
        with pytest.raises(CertificateError):
            call()


_PAIR = create_authority(NOW, days=1)
