"""The service's certificate: checked on the control node, pinned on the host."""

from __future__ import annotations

import http.server
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.service import http as service_http
from ansible_collections.katago.fleet.plugins.plugin_utils.deploy import certificates

NOW = datetime.now(UTC)
PASSWORD = b"password"


def pair(*, begins: int = -1, ends: int = 30, password: bytes | None = None) -> tuple[str, str]:
    """A certificate and its key in PEM, valid from and until so many days from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "go.example.org")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + timedelta(days=begins))
        .not_valid_after(NOW + timedelta(days=ends))
        .sign(key, hashes.SHA256())
    )
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode()


CERTIFICATE, KEY = pair()


def test_neither_or_both_are_fine(tmp_path: Path) -> None:
    assert certificates.problems("", "", now=NOW) == []
    assert certificates.problems(CERTIFICATE, KEY, now=NOW) == []
    for name, content in (("tls.crt", CERTIFICATE), ("tls.key", KEY)):
        (tmp_path / name).write_text(content)
    assert certificates.problems(str(tmp_path / "tls.crt"), str(tmp_path / "tls.key"), now=NOW) == []
    assert certificates.pem(str(tmp_path / "tls.crt")) == CERTIFICATE


@pytest.mark.parametrize(
    ("certificate", "key", "text"),
    [
        (CERTIFICATE, "", "katago_mcp_tls_certificate is set but katago_mcp_tls_key is not"),
        ("", KEY, "katago_mcp_tls_key is set but katago_mcp_tls_certificate is not"),
        ("/nowhere/tls.crt", KEY, "katago_mcp_tls_certificate cannot be read"),
        (CERTIFICATE, "/nowhere/tls.key", "katago_mcp_tls_key cannot be read: No such file"),
        (KEY, KEY, "is not a certificate in PEM"),
        (CERTIFICATE, CERTIFICATE, "is not a private key in PEM"),
        (CERTIFICATE, pair(password=PASSWORD)[1], "without a password"),
        (CERTIFICATE, pair()[1], "katago_mcp_tls_key is not the key of katago_mcp_tls_certificate"),
        (*pair(begins=-30, ends=-1), "katago_mcp_tls_certificate expired at"),
        (*pair(begins=2), "is not valid before"),
    ],
)
def test_problems_are_reported_without_the_key(certificate: str, key: str, text: str) -> None:
    (problem,) = certificates.problems(certificate, key, now=NOW)
    assert text in problem
    assert not any(line in problem for line in key.splitlines()[1:-1])


class _Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"ready": true}')

    def log_message(self, format: str, *arguments: object) -> None:
        """Log nothing."""


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """A server with the certificate of this module."""
    (tmp_path / "served.pem").write_text(CERTIFICATE + KEY)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "served.pem")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answer) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("pinned", "answer"),
    [
        (CERTIFICATE, (200, {"ready": True})),
        (CERTIFICATE + pair()[0], (200, {"ready": True})),
        (pair()[0], None),
        # Further certificates in the file are a chain, not a choice.
        (pair()[0] + CERTIFICATE, None),
        ("not PEM", None),
        (None, None),
    ],
)
def test_host_talks_to_its_own_certificate_and_to_no_other(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    port: int,
    pinned: str | None,
    answer: tuple[int, dict[str, bool]] | None,
) -> None:
    monkeypatch.setattr(paths, "PINNED_CERTIFICATE", tmp_path / "tls.crt")
    if pinned is not None:
        (tmp_path / "tls.crt").write_text(pinned)
    assert service_http.ask_json("127.0.0.1", port, "/ready", tls=True) == answer


def test_certificates_in_the_wrong_order_are_refused_with_the_place_of_the_right_one() -> None:
    others = [pair()[0] for _ in range(2)]
    assert certificates.problems(CERTIFICATE + others[0], KEY, now=NOW) == []
    (problem,) = certificates.problems("".join([*others, CERTIFICATE]), KEY, now=NOW)
    assert problem.startswith("katago_mcp_tls_certificate has its certificates in the wrong order")
    assert "it is number 3 of 3. Put it first" in problem
