"""TLS for the main port. The certificate is checked when it is read, and can be renewed while serving."""

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
    """Validity period of the server's own certificate."""

    starts: datetime
    ends: datetime

    def problem(self, now: datetime) -> str | None:
        """Why clients would reject the certificate now; None if it is valid."""
        if now >= self.ends:
            return f"expired at {self.ends:%Y-%m-%dT%H:%M:%SZ}: renew it and reload the server"
        if now < self.starts:
            return (
                f"is not valid before {self.starts:%Y-%m-%dT%H:%M:%SZ}: check the certificate and the clock"
            )
        return None


def check(files: TlsFiles) -> Certificate:
    """Read a certificate and its key.

    Raises:
        ConfigError: if a file cannot be read or is not valid, or if they do not belong together.
    """
    problems = []
    certificate = key = None
    try:
        # The first certificate is the server's, followed by its chain.
        certificate = x509.load_pem_x509_certificates(_read("certificateFile", files.certificate))[0]
    except ValueError as error:
        problems.append(
            f"tls.certificateFile: {files.certificate} is not a certificate in PEM ({error}): replace it"
        )
    except ConfigError as error:
        problems += error.problems
    try:
        key = serialization.load_pem_private_key(_read("keyFile", files.key), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The library's message is omitted, because the file is a secret.
        problems.append(
            f"tls.keyFile: {files.key} is not a private key in PEM without a password: replace it"
        )
    except ConfigError as error:
        problems += error.problems
    if certificate is None or key is None:
        raise ConfigError(problems)
    if key.public_key() != certificate.public_key():
        raise ConfigError(
            [f"tls.keyFile: {files.key} is not the key of {files.certificate}: use the matching key"]
        )
    return Certificate(certificate.not_valid_before_utc, certificate.not_valid_after_utc)


class Tls:
    """TLS of a listening socket. `context` is the socket's context and does not change."""

    def __init__(self, files: TlsFiles, metrics: Metrics) -> None:
        self._files = files
        self._metrics = metrics
        certificate = check(files)
        self._current = _context(files)
        self.context = _context(files)
        # A context keeps certificates of other key types, so each handshake switches to the context of
        # the newest certificate.
        self.context.sni_callback = self._choose
        self._note(certificate)

    def renew(self) -> None:
        """Use the current files for new handshakes.

        Raises:
            ConfigError: if the files are not valid; the previous certificate stays in use.
        """
        certificate = check(self._files)
        self._current = _context(self._files)
        self._note(certificate)

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _initial: ssl.SSLContext) -> None:
        connection.context = self._current

    def _note(self, certificate: Certificate) -> None:
        self._metrics.certificate_expires.set(certificate.ends.timestamp())
        problem = certificate.problem(datetime.now(UTC))
        if problem is not None:
            _log.error("certificate_not_valid", reason=problem)


def pinned(path: Path) -> ssl.SSLContext:
    """A client context that accepts only the first certificate of a PEM file.

    The server's host name is not checked, because only this exact certificate is accepted.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if the file contains no certificate.
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
        problem = f"tls.certificateFile: {files.certificate} cannot be loaded ({error}): replace it"
        raise ConfigError([problem]) from error
    return context
