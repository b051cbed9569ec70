"""TLS for the main port: the certificate is checked when it is read, and can be renewed meanwhile."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from katago_mcp.config import ConfigError, TlsFiles
from katago_mcp.logs import Log
from katago_mcp.metrics import Metrics

_log = Log(__name__)


@dataclass(frozen=True)
class Certificate:
    """When the server's own certificate is valid."""

    begins: datetime
    ends: datetime

    def trouble(self, now: datetime) -> str | None:
        """Why clients do not accept it now; None when its time is right."""
        if now >= self.ends:
            return f"expired at {self.ends:%Y-%m-%dT%H:%M:%SZ}: renew it and reload"
        if now < self.begins:
            return f"is valid from {self.begins:%Y-%m-%dT%H:%M:%SZ} only: check it and the clock"
        return None


def check(files: TlsFiles) -> Certificate:
    """Read a certificate and its key.

    Raises:
        ConfigError: if one cannot be read, is not what it should be, or they do not belong together.
    """
    problems = []
    certificate = key = None
    try:
        # The first one is the server's, those of its chain follow.
        certificate = x509.load_pem_x509_certificates(_read("certificateFile", files.certificate))[0]
    except ValueError as error:
        problems.append(f"tls.certificateFile: {files.certificate} is not PEM ({error}): correct it")
    except ConfigError as error:
        problems += error.problems
    try:
        key = serialization.load_pem_private_key(_read("keyFile", files.key), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The library's words are left out: this file is a secret.
        problems.append(f"tls.keyFile: {files.key} is no private key in PEM without a password: correct it")
    except ConfigError as error:
        problems += error.problems
    if certificate is None or key is None:
        raise ConfigError(problems)
    if key.public_key() != certificate.public_key():
        raise ConfigError([f"tls.keyFile: {files.key} is not the key of {files.certificate}: give that one"])
    return Certificate(certificate.not_valid_before_utc, certificate.not_valid_after_utc)


class Tls:
    """The TLS side of a listening socket. `context` is for the socket and stays the same."""

    def __init__(self, files: TlsFiles, metrics: Metrics) -> None:
        self._files = files
        self._metrics = metrics
        certificate = check(files)
        self._current = _context(files)
        self.context = _context(files)
        # A context cannot forget a certificate of another kind of key, so every handshake is moved
        # to the context of the newest one.
        self.context.sni_callback = self._choose
        self._note(certificate)

    def renew(self) -> None:
        """Serve new handshakes with what the files hold now.

        Raises:
            ConfigError: if that cannot be used; the former certificate stays.
        """
        certificate = check(self._files)
        self._current = _context(self._files)
        self._note(certificate)

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _asked: ssl.SSLContext) -> None:
        connection.context = self._current

    def _note(self, certificate: Certificate) -> None:
        self._metrics.certificate_expires.set(certificate.ends.timestamp())
        trouble = certificate.trouble(datetime.now(UTC))
        if trouble is not None:
            _log.error("certificate_not_valid", reason=trouble)


def pinned(path: Path) -> ssl.SSLContext:
    """A client's context that accepts the first certificate of a PEM file and no other.

    Since it is that very certificate, the name by which the server was reached does not matter.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it holds no certificate.
    """
    own = x509.load_pem_x509_certificates(path.read_bytes())[0]
    context = ssl.create_default_context(cadata=own.public_bytes(serialization.Encoding.PEM).decode())
    context.check_hostname = False
    context.verify_flags = ssl.VERIFY_X509_TRUSTED_FIRST | ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _read(key: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            [f"tls.{key}: {path} cannot be read ({error.strerror}): correct its path, owner or mode"]
        ) from error


def _context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(files.certificate, files.key)
    except OSError as error:
        problem = f"tls.certificateFile: {files.certificate} cannot be used ({error}): correct it"
        raise ConfigError([problem]) from error
    return context
