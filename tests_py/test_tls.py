"""Servers that no key should be shown to: each is refused before it sees one, and the reason is named."""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
import subprocess
import threading
import warnings

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

import exai_files

pytestmark = pytest.mark.once

KEY = "sk-canary-of-tls-0123456789"
NOW = datetime.datetime.now(datetime.timezone.utc)
DAY = datetime.timedelta(days=1)


class Party:
    """A certificate and its key."""

    def __init__(self, folder, name, issuer=None, *, is_authority=False, bits=None, hash_=None, days=(-1, 30), **names):
        self.key = rsa.generate_private_key(65537, bits) if bits else ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        signer = issuer or self
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(signer.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW + days[0] * DAY)
            .not_valid_after(NOW + days[1] * DAY)
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        )
        if "host" in names:
            san = x509.SubjectAlternativeName([x509.DNSName(names["host"])])
            builder = builder.add_extension(san, critical=False)
        if "only" in names:
            only = x509.NameConstraints([x509.DNSName(names["only"])], None)
            builder = builder.add_extension(only, critical=True)
        self.certificate = builder.sign(signer.key, hash_ or hashes.SHA256())
        self.file = folder / f"{name}.pem"

    def chain(self, *others):
        """A file with the key, the certificate and those that are sent along."""
        plain = serialization.NoEncryption()
        pem = self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        pem += b"".join(each.certificate.public_bytes(serialization.Encoding.PEM) for each in (self, *others))
        self.file.write_bytes(pem)
        return str(self.file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def authority(folder):
    """The company's own, which the client is told of."""
    authority = Party(folder, "authority", is_authority=True)
    (folder / "ca.pem").write_bytes(authority.certificate.public_bytes(serialization.Encoding.PEM))
    return authority


class Server:
    """Takes connections on 127.0.0.1 and keeps every byte that it could read."""

    def __init__(self, context=None):
        self.context, self.received = context, b""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                with contextlib.suppress(OSError), connection:
                    self.answer(connection)

    def answer(self, connection):
        connection.settimeout(5)
        stream = self.context.wrap_socket(connection, server_side=True) if self.context else connection
        with stream:
            # Who speaks no TLS answers to whatever comes.
            end = b"\r\n\r\n" if self.context else b""
            while (not self.received or end not in self.received) and (piece := stream.recv(65536)):
                self.received += piece
            body = b'{"object":"list","data":[],"has_more":false}'
            stream.sendall(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
            )
            stream.sendall(body)

    def close(self):
        # A listener that is closed while it is waited for would wait for ever.
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(10)


def context(chain, *, version=None, level=None):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if level is not None:
        made.set_ciphers(f"ALL:@SECLEVEL={level}")
    if version:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            made.minimum_version = made.maximum_version = version
    made.load_cert_chain(chain)
    return made


def unknown_name(authority, folder):
    made = context(Party(folder, "no-sni", authority, host="localhost").chain())
    made.sni_callback = lambda *_: ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
    return made


def by_sha1(authority, folder):
    """By the command: the library refuses to."""
    key, request, names = folder / "sha1.key", folder / "sha1.csr", folder / "sha1.ext"
    names.write_text("subjectAltName=DNS:localhost\n")
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-batch", "-subj", "/CN=localhost"]
    openssl("req", *new, "-keyout", key, "-out", request)
    signer = authority.chain()
    signing = ["-req", "-sha1", "-days", "30", "-CA", signer, "-CAkey", signer, "-CAcreateserial", "-extfile", names]
    certificate = openssl("x509", *signing, "-in", request)
    (folder / "sha1.pem").write_text(key.read_text() + certificate)
    return str(folder / "sha1.pem")


def openssl(*words):
    return subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True, check=True).stdout


def in_between(authority, folder, name, **constraint):
    return Party(folder, name, authority, is_authority=True, **constraint)


def constrained(authority, folder):
    between = in_between(authority, folder, "constrained", only="example.com")
    return context(Party(folder, "outside", between, host="localhost").chain(between))


UNTRUSTED = "of an authority that is not trusted, or the chain to it is not whole"

BAD = {
    "expired": (
        lambda ca, f: context(Party(f, "expired", ca, host="localhost", days=(-30, -1)).chain()),
        "certificate expired",
    ),
    "not yet valid": (
        lambda ca, f: context(Party(f, "early", ca, host="localhost", days=(1, 30)).chain()),
        "certificate not valid yet",
    ),
    "wrong host": (
        lambda ca, f: context(Party(f, "other", ca, host="other.example").chain()),
        r'not valid for name "localhost".*other.example',
    ),
    "self-signed": (lambda ca, f: context(Party(f, "self-signed", host="localhost").chain()), UNTRUSTED),
    "unknown authority": (
        lambda ca, f: context(Party(f, "stranger", Party(f, "evil", is_authority=True), host="localhost").chain()),
        UNTRUSTED,
    ),
    "SHA-1": (
        lambda ca, f: context(by_sha1(ca, f), level=0),
        "signed with SHA-1 or another algorithm that is not safe",
    ),
    "RSA of 1024 bits": (
        lambda ca, f: context(Party(f, "short", ca, host="localhost", bits=1024).chain(), level=0),
        "RSA key of less than 2048 bits",
    ),
    "TLS 1.0": (
        lambda ca, f: context(
            Party(f, "tls10", ca, host="localhost", bits=2048).chain(), version=ssl.TLSVersion.TLSv1, level=0
        ),
        "speaks neither TLS 1.2 nor 1.3",
    ),
    "TLS 1.1": (
        lambda ca, f: context(
            Party(f, "tls11", ca, host="localhost", bits=2048).chain(), version=ssl.TLSVersion.TLSv1_1, level=0
        ),
        "speaks neither TLS 1.2 nor 1.3",
    ),
    "no such name there": (unknown_name, "does not know the name"),
    "truncated chain": (
        lambda ca, f: context(Party(f, "leaf", in_between(ca, f, "between"), host="localhost").chain()),
        UNTRUSTED,
    ),
    "name constraints": (constrained, "may not vouch for this name"),
    "plain http": (lambda ca, f: None, "does not speak TLS"),
}


def client(folder, port):
    moonshot = {"base_url": f"https://localhost:{port}/v1", "api_key": KEY}
    settings = {"http": {"ca_bundle": str(folder / "ca.pem")}, "retry": {"max_attempts": 1}}
    return exai_files.Client(registry=":memory:", environment={}, platforms={"moonshot": moonshot}, settings=settings)


@contextlib.contextmanager
def serving(made):
    server = Server(made)
    yield server
    server.close()


def test_a_good_server_is_talked_to(authority, folder):
    made = context(Party(folder, "good", authority, host="localhost").chain())
    with serving(made) as server, client(folder, server.port) as files:
        assert files.list_remote("moonshot", timeout=20) == []
        assert KEY.encode() in server.received


@pytest.mark.parametrize("name", BAD)
def test_a_bad_server_is_refused_and_the_reason_named(authority, folder, name):
    make, reason = BAD[name]
    with serving(make(authority, folder)) as server:
        with client(folder, server.port) as files, pytest.raises(exai_files.PlatformUnavailableError, match=reason):
            files.list_remote("moonshot", timeout=20)
    assert KEY.encode() not in server.received
    assert b"authorization" not in server.received.lower()
    assert not server.received or name == "plain http"


def test_a_server_that_wants_to_negotiate_again_is_refused(authority, folder):
    chain = Party(folder, "again", authority, host="localhost").chain()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-tls1_2", "-cert", chain, "-key", chain]
    server = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
    )
    said = []

    def renegotiate():
        for line in server.stdout:
            said.append(line)
            if line.startswith("GET /v1/files"):
                server.stdin.write("r\n")

    watching = threading.Thread(target=renegotiate, daemon=True)
    with server:
        try:
            while not any(line.startswith("ACCEPT") for line in said):
                said.append(server.stdout.readline())
                assert said[-1], said
            watching.start()
            with client(folder, port) as files, pytest.raises(exai_files.Error, match="connection broke"):
                files.list_remote("moonshot", timeout=20)
        finally:
            server.kill()
            watching.join(10)
    assert "no renegotiation" in "".join(said)


def test_fourteen_of_them(authority, folder):
    assert len(BAD) + 1 == 14
