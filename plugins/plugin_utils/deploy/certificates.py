"""The service's certificate and key on the control node: read, and checked before anything is touched."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

CERTIFICATE, KEY = "katago_mcp_tls_certificate", "katago_mcp_tls_key"


def pem(value: str) -> str:
    """PEM as it is given, or the content of the file of that name; empty stays empty. Raises OSError."""
    text = str(value)
    if not text or "-----BEGIN " in text:
        return text
    return Path(text).expanduser().read_text()


def problems(certificate: Any, key: Any, *, now: datetime) -> list[str]:
    """What is wrong with the two variables; each message names variable and remedy, none has the key."""
    if not certificate and not key:
        return []
    if not certificate or not key:
        given, missing = (CERTIFICATE, KEY) if certificate else (KEY, CERTIFICATE)
        return [
            f"{given} is given and {missing} is not; the service needs both, or none of them for plain HTTP."
        ]
    found = []
    served = private = None
    try:
        served = x509.load_pem_x509_certificates(pem(certificate).encode())[0]
    except OSError as error:
        found.append(f"{CERTIFICATE} cannot be read: {error}. Give a file on the control node, or PEM.")
    except ValueError as error:
        found.append(f"{CERTIFICATE} is no certificate in PEM: {error}.")
    try:
        private = serialization.load_pem_private_key(pem(key).encode(), password=None)
    except OSError as error:
        # A key that lost its first line was taken for a path, which must not be shown.
        found.append(f"{KEY} cannot be read: {error.strerror}. Give a file on the control node, or PEM.")
    except (ValueError, TypeError, UnsupportedAlgorithm):
        found.append(f"{KEY} is no private key in PEM without a password; `openssl pkey` writes one.")
    if served is None or private is None:
        return found
    if private.public_key() != served.public_key():
        found.append(f"{KEY} is not the key of {CERTIFICATE}; give the one that its request was made with.")
    if now >= served.not_valid_after_utc:
        found.append(f"{CERTIFICATE} expired at {served.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; renew it.")
    elif now < served.not_valid_before_utc:
        found.append(
            f"{CERTIFICATE} is valid from {served.not_valid_before_utc:%Y-%m-%d %H:%M} UTC only;"
            " check it and the control node's clock."
        )
    return found
