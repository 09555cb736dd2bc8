"""`ctl tls`: Consul's texts and file names; openssl itself verifies what was made."""

import contextlib
import json
import os
import socket
import ssl
import stat
import threading

import pytest

from core.certs import CLIENT_AUTH, SERVER_AUTH, facts

SERVER_TEXT = """\
==> WARNING: Server Certificates grants authority to become a
    server and access all state in the cluster including root keys
    and all ACL tokens. Do not distribute them to production hosts
    that are not server nodes. Store them as securely as CA keys.
==> Using consul-agent-ca.pem and consul-agent-ca-key.pem
==> Saved dc1-server-consul-0.pem
==> Saved dc1-server-consul-0-key.pem
"""


@pytest.fixture
def folder(tmp_path, monkeypatch, ctl):
    monkeypatch.chdir(tmp_path)
    result = ctl("tls", "ca", "create")
    assert (result.code, result.err) == (0, "")
    assert result.out == "==> Saved consul-agent-ca.pem\n==> Saved consul-agent-ca-key.pem\n"
    return tmp_path


def test_nothing_is_overwritten(ctl, folder):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    result = ctl("tls", "ca", "create")
    assert (result.code, result.out, result.err) == (1, "", "consul-agent-ca.pem already exists.\n")
    (folder / "consul-agent-ca.pem").rename(folder / "kept.pem")
    assert ctl("tls", "ca", "create").err == "consul-agent-ca-key.pem already exists.\n"
    (folder / "kept.pem").rename(folder / "consul-agent-ca.pem")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert ctl("tls", "ca", "create", "-domain=example").code == 0
    assert (folder / "example-agent-ca.pem").exists()


def test_server(ctl, folder):
    result = ctl("tls", "cert", "create", "-server", "-dc=dc1", "-node=n1", "-additional-ipaddress=10.0.0.1")
    assert (result.code, result.out, result.err) == (0, SERVER_TEXT, "")
    found = facts((folder / "dc1-server-consul-0.pem").read_bytes())
    assert found.subject == "CN=server.dc1.consul"
    assert found.dns_names == ("n1.server.dc1.consul", "server.dc1.consul", "localhost")
    assert found.ip_addresses == ("10.0.0.1", "127.0.0.1")
    assert found.good_for(SERVER_AUTH)
    assert found.good_for(CLIENT_AUTH)
    assert stat.S_IMODE(os.stat("dc1-server-consul-0-key.pem").st_mode) == 0o600
    assert stat.S_IMODE(os.stat("consul-agent-ca-key.pem").st_mode) == 0o600
    assert ctl("tls", "cert", "create", "-server").out.endswith("==> Saved dc1-server-consul-1-key.pem\n")


@pytest.mark.parametrize(
    ("kind", "names", "addresses", "usages"),
    [
        ("client", ("client.dc2.consul", "localhost"), ("127.0.0.1",), (True, True)),
        ("cli", ("cli.dc2.consul", "localhost"), (), (False, True)),
    ],
)
def test_client_and_cli(ctl, folder, kind, names, addresses, usages):
    result = ctl("tls", "cert", "create", f"-{kind}", "-dc", "dc2", "-o", "json")
    assert json.loads(result.out) == {
        "Certificate": f"dc2-{kind}-consul-0.pem",
        "Key": f"dc2-{kind}-consul-0-key.pem",
    }
    found = facts((folder / f"dc2-{kind}-consul-0.pem").read_bytes())
    assert (found.dns_names, found.ip_addresses) == (names, addresses)
    assert (found.good_for(SERVER_AUTH), found.good_for(CLIENT_AUTH)) == usages


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "Please provide either -server, -client, or -cli\n"),
        (["-server", "-cli"], "Please provide either -server, -client, or -cli\n"),
        (["-client", "-node=n1"], "-node requires -server\n"),
        (["-server", "-ca=no.pem"], "Error reading CA: open no.pem: no such file or directory\n"),
        (["-server", "-key=no.pem"], "Error reading CA key: open no.pem: no such file or directory\n"),
        (["-server", "-days=0"], "Error: a certificate must be valid for a day at least\n"),
        (["-cli", "-additional-ipaddress=x"], "Error: not an IP address: 'x' does not appear"),
        (["-server", "-ca=consul-agent-ca-key.pem"], "Error: cannot read the certificate: "),
    ],
)
def test_refusals(ctl, folder, words, text):
    before = set(folder.iterdir())
    result = ctl("tls", "cert", "create", *words)
    assert result.code == 1
    assert result.err.startswith(text)
    assert set(folder.iterdir()) == before


def test_a_full_folder_leaves_nothing(ctl, folder, monkeypatch):
    before = set(folder.iterdir())
    opened = []
    real = os.open

    def fail_the_second(path, flags, mode=0o777):
        if str(path).startswith("dc1-"):
            opened.append(path)
            if len(opened) == 2:
                raise OSError(28, "No space left on device")
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", fail_the_second)
    result = ctl("tls", "cert", "create", "-client")
    assert (result.code, result.err) == (
        1,
        "Error: cannot write dc1-client-consul-0-key.pem: no space left on device\n",
    )
    assert set(folder.iterdir()) == before


def talk(certificate, authority, name, shown=""):
    """Connect as an agent would that verifies `certificate` for `name`; with a certificate when `shown`."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(f"{certificate}.pem", f"{certificate}-key.pem")
    caller = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    caller.load_verify_locations(authority)
    if shown:
        server.load_verify_locations(authority)
        server.verify_mode = ssl.CERT_REQUIRED
        caller.load_cert_chain(f"{shown}.pem", f"{shown}-key.pem")
    one, other = socket.socketpair()

    def answer():
        with contextlib.suppress(OSError), one, server.wrap_socket(one, server_side=True) as secure:
            secure.sendall(secure.recv(5))

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        with other, caller.wrap_socket(other, server_hostname=name) as secure:
            secure.sendall(b"hello")
            return secure.recv(5)
    finally:
        thread.join()


def test_two_sides_talk(ctl, folder):
    for kind in ("server", "client"):
        assert ctl("tls", "cert", "create", f"-{kind}").code == 0
    certificate, shown = "dc1-server-consul-0", "dc1-client-consul-0"
    assert talk(certificate, "consul-agent-ca.pem", "server.dc1.consul", shown) == b"hello"
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        talk(certificate, "consul-agent-ca.pem", "server.dc2.consul")


def test_name_constraint(ctl, folder):
    words = ["-name-constraint", "-additional-name-constraint=example.org", "-domain=small"]
    assert ctl("tls", "ca", "create", *words).code == 0
    assert ctl("tls", "cert", "create", "-server", "-domain=small").code == 0
    authority = ["-ca=small-agent-ca.pem", "-key=small-agent-ca-key.pem"]
    assert ctl("tls", "cert", "create", "-server", "-domain=large", *authority).code == 0
    assert talk("dc1-server-small-0", "small-agent-ca.pem", "server.dc1.small") == b"hello"
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
        talk("dc1-server-large-0", "small-agent-ca.pem", "server.dc1.large")
    assert ctl("tls", "ca", "create", "-domain=b", "-additional-name-constraint=a").code == 1
