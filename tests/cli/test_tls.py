"""HTTPS: whom the client trusts, and what it says when it does not."""

import datetime
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def certify(name, issuer=None, issuer_key=None, names=()):
    """A certificate and its key, signed by `issuer` or by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(issuer_key or key, hashes.SHA256()), key


def write(folder, name, certificate, key):
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / f"{name}-key.pem").write_bytes(secret)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"value")

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A refused handshake is what some tests want."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    authority, key = certify("authority")
    write(folder, "ca", authority, key)
    names = [x509.DNSName("server.dc1.consul"), x509.IPAddress(ip_address("127.0.0.1"))]
    write(folder, "server", *certify("server", authority, key, names))
    write(folder, "client", *certify("client", authority, key))
    write(folder, "other", *certify("other"))
    return folder


def serve(folder, demand):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server-key.pem")
    if demand:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(folder / "ca.pem")
    server = Server(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server


@pytest.fixture(params=[False, True], ids=["server-only", "mutual"])
def address(request, folder):
    server = serve(folder, request.param)
    yield f"127.0.0.1:{server.server_address[1]}", request.param
    server.shutdown()
    server.server_close()


def test_trust_by_flags_and_environment(ctl, address, folder, monkeypatch, tmp_path):
    where, mutual = address
    client = [f"-client-cert={folder}/client.pem", f"-client-key={folder}/client-key.pem"]
    flags = [f"-http-addr=https://{where}", f"-ca-file={folder}/ca.pem", *client]
    assert ctl("kv", "get", *flags, "k").out == "value\n"
    assert ctl("kv", "get", *flags, "-tls-server-name=server.dc1.consul", "k").out == "value\n"
    trusted = tmp_path / "trusted"
    trusted.mkdir()
    (trusted / "whatever.crt").write_bytes((folder / "ca.pem").read_bytes())
    by_path = [f"-http-addr=https://{where}", f"-ca-path={trusted}", *client]
    assert ctl("kv", "get", *by_path, "k").out == "value\n"
    monkeypatch.setenv("CONSUL_HTTP_ADDR", where)
    monkeypatch.setenv("CONSUL_HTTP_SSL", "true")
    monkeypatch.setenv("CONSUL_CACERT", f"{folder}/ca.pem")
    monkeypatch.setenv("CONSUL_CLIENT_CERT", f"{folder}/client.pem")
    monkeypatch.setenv("CONSUL_CLIENT_KEY", f"{folder}/client-key.pem")
    assert ctl("kv", "get", "k").out == "value\n"
    monkeypatch.setenv("CTL_CACERT", f"{folder}/other.pem")
    refused = ctl("kv", "get", "k")
    assert refused.code == 1
    assert f'Get "https://{where}/v1/kv/k?raw": tls: failed to verify certificate: ' in refused.err
    monkeypatch.setenv("CTL_HTTP_SSL_VERIFY", "false")
    assert ctl("kv", "get", "k").out == "value\n"
    monkeypatch.delenv("CONSUL_CLIENT_KEY")
    assert "both client cert and client key" in ctl("kv", "get", "k").err
    monkeypatch.delenv("CONSUL_CLIENT_CERT")
    assert ctl("kv", "get", "k").code == (1 if mutual else 0)


def test_names_are_verified(ctl, address, folder):
    where, _ = address
    flags = [f"-http-addr=https://{where}", f"-ca-file={folder}/ca.pem", "-tls-server-name=server.dc2.consul"]
    result = ctl("kv", "get", *flags, "k")
    assert result.code == 1
    assert "server.dc2.consul" in result.err


def test_unusable_files_and_plain_servers(ctl, agent, folder):
    result = ctl("kv", "get", "-http-addr=https://127.0.0.1:1", "k")
    assert "connection refused" in result.err
    result = ctl("kv", "get", f"-http-addr=https://{agent.address}", "-ca-file=/no/such", "k")
    why = "Error loading CA File: open /no/such: no such file or directory"
    assert (result.code, result.err) == (1, f"Error connecting to Consul agent: {why}\n")
    result = ctl("kv", "get", f"-http-addr=https://{agent.address}", f"-ca-file={folder}/ca-key.pem", "k")
    why = f"Error loading CA File: Couldn't parse PEM in: {folder}/ca-key.pem"
    assert result.err == f"Error connecting to Consul agent: {why}\n"
    result = ctl("kv", "get", f"-http-addr=https://{agent.address}", "-ca-path=/no/such", "k")
    assert result.err == "Error connecting to Consul agent: lstat /no/such: no such file or directory\n"
    result = ctl("kv", "get", f"-http-addr=https://{agent.address}", "-client-cert=/x", "k")
    assert (
        result.err == "Error connecting to Consul agent: both client cert and client key must be provided\n"
    )
    result = ctl("operator", "raft", "list-peers", "-token-file=/no/such")
    why = "Error loading token file: open /no/such: no such file or directory"
    assert result.err == f"Error initializing client: {why}\n"
    result = ctl("kv", "get", f"-http-addr=https://{agent.address}", "k")
    assert result.code == 1
    assert result.err.endswith(": http: server gave HTTP response to HTTPS client\n")
