"""HTTP and SMTP servers on the loopback interface that receive messages, and fail on command."""

from __future__ import annotations

import base64
import contextlib
import datetime
import ipaddress
import json
import socketserver
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass
class Http:
    """An HTTP server: the requests that it received, and its answer. `hang`: seconds before an answer."""

    port: int = 0
    status: int = 200
    hang: float = 0
    drop: bool = False
    requests: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)


@contextlib.contextmanager
def http(**behaviour: Any) -> Iterator[Http]:
    """Run an HTTP server on a free port."""
    state = Http(**behaviour)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            state.requests.append((self.path, dict(self.headers), json.loads(body)))
            time.sleep(state.hang)
            if state.drop:
                self.connection.close()
                return
            self.do_GET()

        def do_GET(self) -> None:
            with contextlib.suppress(OSError):
                self.send_response(state.status)
                if state.status // 100 == 3:
                    self.send_header("Location", f"http://127.0.0.1:{state.port}/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()


@dataclass
class Smtp:
    """An SMTP server: the mails that it received, and the step at which it fails.

    `ca_file` is the certificate that clients must trust. `strangers` are recipients that it rejects.
    """

    ca_file: Path
    port: int = 0
    starttls: bool = True
    password: str = ""
    refuses: str = ""
    strangers: tuple[str, ...] = ()
    drops_at: str = ""
    mails: list[tuple[list[str], str, bool]] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)


@contextlib.contextmanager
def smtp(directory: Path, *, tls: bool = False, **behaviour: Any) -> Iterator[Smtp]:
    """Run an SMTP server on a free port. It offers STARTTLS, or with `tls` uses TLS from the start.

    `refuses` and `drops_at` name a command, such as RCPT or DATA. With a password it requires AUTH PLAIN.
    """
    certificate = self_signed(directory)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    state = Smtp(ca_file=certificate, **behaviour)

    class Handler(socketserver.StreamRequestHandler):
        def setup(self) -> None:
            if tls:
                self.request = context.wrap_socket(self.request, server_side=True)
            super().setup()

        def say(self, line: str) -> None:
            self.wfile.write(line.encode() + b"\r\n")
            self.wfile.flush()

        def handle(self) -> None:
            with contextlib.suppress(OSError):
                self.converse()

        def converse(self) -> None:
            encrypted, recipients = tls, list[str]()
            self.say("220 stub")
            while line := self.rfile.readline().decode().strip():
                verb = line.split()[0].upper()
                state.commands.append(verb)
                if verb == state.drops_at:
                    return
                if verb == state.refuses:
                    self.say("550 refused with secret words")
                elif verb == "EHLO":
                    offers = ["STARTTLS"] if state.starttls and not encrypted else []
                    offers += ["AUTH PLAIN"] if encrypted and state.password else []
                    for offer in ["stub", *offers]:
                        self.say(f"250-{offer}")
                    self.say("250 8BITMIME")
                elif verb == "STARTTLS":
                    self.say("220 go on")
                    self.request = context.wrap_socket(self.request, server_side=True)
                    super().setup()
                    encrypted = True
                elif verb == "AUTH":
                    expected = f"\0ops\0{state.password}"
                    accepted = base64.b64decode(line.split()[2]).decode() == expected
                    self.say("235 welcome" if accepted else "535 no")
                elif verb == "RCPT":
                    recipient = line.partition("<")[2].rstrip(">")
                    if recipient in state.strangers:
                        self.say("550 no such user")
                    else:
                        recipients.append(recipient)
                        self.say("250 ok")
                elif verb == "DATA":
                    self.say("354 go on")
                    lines = []
                    while (text := self.rfile.readline().decode()) not in (".\r\n", ""):
                        lines.append(text)
                    if state.drops_at == "END":
                        return
                    state.mails.append((recipients, "".join(lines), encrypted))
                    self.say("250 taken")
                elif verb == "QUIT":
                    self.say("221 bye")
                    return
                else:
                    self.say("250 ok")

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    with Server(("127.0.0.1", 0), Handler) as server:
        state.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()


def certified(days: int, *names: str) -> tuple[bytes, bytes]:
    """A self-signed certificate that ends in a few days, and its key, in PEM.

    `names`: the names and addresses that it is for; 127.0.0.1 if there are none.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    now = datetime.datetime.now(datetime.UTC)
    alternatives = [_alternative(each) for each in names or ("127.0.0.1",)]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=days, hours=1))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), private


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


class Authority:
    """A certificate authority of a test. `pem`: its certificate."""

    def __init__(self, name: str = "test CA") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        self.pem = self._signed(self._name, self._key, constraints)

    def issue(self, *names: str) -> tuple[str, str]:
        """A certificate for these names of DNS, and its key, in PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
        alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return self._signed(subject, key, alternatives), private.decode()

    def _signed(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType
    ) -> str:
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder(self._name, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM).decode()


def self_signed(directory: Path) -> Path:
    """Write a self-signed certificate for 127.0.0.1 and its key into one file."""
    path = directory / "loopback.pem"
    path.write_bytes(b"".join(certified(days=1)))
    return path
