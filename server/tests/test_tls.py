"""TLS: validation of the certificate, and renewal while the server runs."""

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography import x509

import certificates
from katago_mcp import tls
from katago_mcp import validate as validation
from katago_mcp.client import call
from katago_mcp.config import ConfigError, TlsFiles, load
from support import CLEAN_ENVIRON, PATIENCE, Running, Site, eventually

RELOAD = "/admin/reload"


def problems(files: TlsFiles) -> str:
    with pytest.raises(ConfigError) as caught:
        tls.check(files)
    return "\n".join(caught.value.problems)


@pytest.fixture
def pair(tmp_path: Path) -> TlsFiles:
    files = certificates.files(tmp_path)
    certificates.write(files)
    return files


def test_all_unreadable_files_are_reported(tmp_path: Path) -> None:
    message = problems(certificates.files(tmp_path))
    assert "tls.certificateFile" in message
    assert "tls.keyFile" in message
    assert message.count("cannot be read (No such file or directory)") == 2


def test_key_of_another_certificate_is_rejected(pair: TlsFiles, tmp_path: Path) -> None:
    other = certificates.files(tmp_path, "other")
    certificates.write(other)
    assert "is not the key of" in problems(TlsFiles(pair.certificate, other.key))


def test_invalid_pem_is_rejected_without_showing_the_key(pair: TlsFiles) -> None:
    pair.certificate.write_text("a certificate")
    pair.key.write_text("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
    message = problems(pair)
    assert "is not a certificate in PEM" in message
    assert "is not a private key in PEM" in message
    assert "c2VjcmV0" not in message


def test_key_with_a_password_is_rejected(pair: TlsFiles) -> None:
    certificates.write(pair, password=b"words")
    assert "without a password" in problems(pair)


def test_tls_without_files_is_a_configuration_error(site: Site) -> None:
    site.write(tls={"enabled": True})
    with pytest.raises(ConfigError) as caught:
        load(site.path, {})
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "tls.certificateFile",
        "tls.keyFile",
    ]


def test_credentials_are_used_without_paths(site: Site, tmp_path: Path) -> None:
    site.write(tls={"enabled": True})
    assert load(site.path, {"CREDENTIALS_DIRECTORY": str(tmp_path)}).tls == certificates.files(tmp_path)
    site.write(tls={"enabled": False})
    assert load(site.path, {"CREDENTIALS_DIRECTORY": str(tmp_path)}).tls is None


@pytest.mark.parametrize(
    ("days", "ok", "expected"), [(30, True, "is valid until"), (-1, False, "expired at")]
)
def test_validate_checks_the_certificate(site: Site, days: float, ok: bool, expected: str) -> None:
    certificates.write(certificates.files(site.directory), days=days)
    site.write(tls={"enabled": True, "certificateFile": "tls.crt", "keyFile": "tls.key"})
    report = asyncio.run(validation.validate(site.path, CLEAN_ENVIRON, engine=False))
    (check,) = [check for check in report.checks if check.name == "certificate"]
    assert (check.ok, expected in check.message) == (ok, True)


def test_invalid_certificate_exits_with_status_78(site: Site) -> None:
    site.write(tls={"enabled": True, "certificateFile": "tls.crt", "keyFile": "tls.key"})
    done = site.run("serve", "--config", str(site.path))
    assert done.returncode == 78
    assert "tls.keyFile" in done.stderr


class Secured:
    """A server with TLS, and a client that pins its certificate."""

    def __init__(self, site: Site, running: Running) -> None:
        self.site = site
        self.running = running
        self.files = certificates.files(site.directory)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.site.port}"

    def post(self, path: str) -> httpx2.Response:
        return httpx2.post(self.url + path, verify=tls.pinned(self.files.certificate), timeout=PATIENCE)

    def call(self, certificate: Path | None) -> dict[str, Any]:
        request = {
            "url": f"{self.url}/mcp",
            "certificate": None if certificate is None else str(certificate),
            "calls": [{"tool": "getEngineStatus"}],
        }
        return asyncio.run(call(json.dumps(request)))

    def shown(self, name: str | None) -> int:
        """The serial number of the certificate that a client gets for a server name."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        address = ("127.0.0.1", self.site.port)

        async def connect() -> bytes:
            _, writer = await asyncio.open_connection(*address, ssl=context, server_hostname=name or "")
            shown: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            writer.close()
            return shown

        return x509.load_der_x509_certificate(asyncio.run(connect())).serial_number


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    site = Site(tmp_path_factory.mktemp("tls"))
    files = certificates.files(site.directory)
    certificates.write(files, kind="rsa")
    site.write(
        tls={"enabled": True, "certificateFile": "tls.crt", "keyFile": "tls.key"},
        server={"headerTimeoutSeconds": 3},
    )
    with site.serving(ready=None) as running:
        made = Secured(site, running)

        def answers() -> bool:
            try:
                pin = tls.pinned(files.certificate)
                answer = httpx2.get(f"{made.url}/health", verify=pin, timeout=PATIENCE)
            except httpx2.TransportError:
                return False
            return answer.status_code == 200

        eventually(answers, f"/health over TLS: {running.log.read_text()}")
        yield made


def test_only_the_pinned_certificate_is_accepted(secured: Secured, tmp_path: Path) -> None:
    assert secured.call(secured.files.certificate)["ok"]
    assert "CERTIFICATE_VERIFY_FAILED" in secured.call(None)["error"]
    other = certificates.files(tmp_path)
    certificates.write(other)
    assert "CERTIFICATE_VERIFY_FAILED" in secured.call(other.certificate)["error"]


def test_unreadable_pinned_certificate_is_reported(secured: Secured, tmp_path: Path) -> None:
    assert "No such file" in secured.call(tmp_path / "none")["error"]


def test_plain_http_is_rejected(secured: Secured) -> None:
    with pytest.raises(httpx2.TransportError):
        httpx2.get(f"http://127.0.0.1:{secured.site.port}/health", timeout=PATIENCE)


@pytest.mark.parametrize("start", [b"", b"\x16\x03\x01\x02\x00\x01\x00"], ids=["nothing", "part of a hello"])
def test_stalled_handshake_ends(secured: Secured, start: bytes) -> None:
    address = ("127.0.0.1", secured.site.port)
    with socket.create_connection(address, timeout=PATIENCE) as connection:
        connection.sendall(start)
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_a_renewed_certificate_is_served_after_a_reload(secured: Secured, kind: str) -> None:
    """Also with another key type, and for clients without a server name."""
    before = secured.shown("go.example.org")
    pin = tls.pinned(secured.files.certificate)
    serial = certificates.write(secured.files, days=20, kind=kind)
    assert secured.shown("go.example.org") == before
    assert httpx2.post(secured.url + RELOAD, verify=pin, timeout=PATIENCE).status_code == 200
    assert [secured.shown(name) for name in ("go.example.org", None)] == [serial, serial]
    assert secured.call(secured.files.certificate)["ok"]


def test_invalid_renewed_certificate_keeps_the_previous_one(secured: Secured) -> None:
    before = secured.shown(None)
    pin = tls.pinned(secured.files.certificate)
    key = secured.files.key.read_bytes()
    secured.files.key.write_text("half a file")
    answer = httpx2.post(secured.url + RELOAD, verify=pin, timeout=PATIENCE)
    assert answer.status_code == 422
    assert answer.json()["problems"][0].startswith("tls.keyFile: ")
    assert secured.shown(None) == before
    secured.files.key.write_bytes(key)
    assert secured.post(RELOAD).status_code == 200


def test_expiry_of_the_certificate_is_a_metric(secured: Secured) -> None:
    name = "katago_mcp_tls_certificate_expires_timestamp_seconds"
    certificates.write(secured.files, days=10)
    pinned = tls.check(secured.files).ends.timestamp()
    eventually(lambda: secured.running.metric(name) != pinned, "another certificate is still served")
    secured.running.process.send_signal(1)
    eventually(lambda: secured.running.metric(name) == pinned, "the expiry of the renewed certificate")
