"""Reads the service's certificate and key on the control node, and checks them before anything is changed."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

CERTIFICATE, KEY = "katago_mcp_tls_certificate", "katago_mcp_tls_key"


def pem(value: str) -> str:
    """The PEM text of a value, which is PEM itself or a file name; empty stays empty. Raises OSError."""
    text = str(value)
    if not text or "-----BEGIN " in text:
        return text
    return Path(text).expanduser().read_text()


def problems(certificate: Any, key: Any, *, now: datetime) -> list[str]:
    """The problems with both variables. Each message names the variable and the fix, but never the key."""
    if not certificate and not key:
        return []
    if not certificate or not key:
        present, missing = (CERTIFICATE, KEY) if certificate else (KEY, CERTIFICATE)
        return [f"{present} is set but {missing} is not. Set both for HTTPS, or neither for plain HTTP."]
    messages = []
    served = private = None
    try:
        served = x509.load_pem_x509_certificates(pem(certificate).encode())[0]
    except OSError as error:
        messages.append(
            f"{CERTIFICATE} cannot be read: {error}. Set it to a file on the control node, or to PEM text."
        )
    except ValueError as error:
        messages.append(
            f"{CERTIFICATE} is not a certificate in PEM format: {error}. `openssl x509` converts it."
        )
    try:
        private = serialization.load_pem_private_key(pem(key).encode(), password=None)
    except OSError as error:
        # The value may be a key without its first line, taken for a path. It must not be shown.
        messages.append(
            f"{KEY} cannot be read: {error.strerror}. Set it to a file on the control node, or to PEM text."
        )
    except (ValueError, TypeError, UnsupportedAlgorithm):
        messages.append(
            f"{KEY} is not a private key in PEM format without a password. `openssl pkey` converts it."
        )
    if served is None or private is None:
        return messages
    if private.public_key() != served.public_key():
        messages.append(
            f"{KEY} is not the key of {CERTIFICATE}. Use the key with which the certificate was requested."
        )
    if now >= served.not_valid_after_utc:
        messages.append(
            f"{CERTIFICATE} expired at {served.not_valid_after_utc:%Y-%m-%d %H:%M} UTC. Renew it."
        )
    elif now < served.not_valid_before_utc:
        messages.append(
            f"{CERTIFICATE} is not valid before {served.not_valid_before_utc:%Y-%m-%d %H:%M} UTC."
            " Check it and the control node's clock."
        )
    return messages
