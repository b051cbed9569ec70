"""Reads the service's certificate and key on the control node, and checks them before anything is changed."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

CERTIFICATE, KEY = "katago_mcp_tls_certificate", "katago_mcp_tls_key"


def pem(value: str) -> str:
    """The PEM text of a value, which is PEM itself or a file name; empty stays empty. Raises OSError."""
    text = str(value)
    if not text or "-----BEGIN " in text:
        return text
    return Path(text).expanduser().read_text()


def end(text: str) -> datetime | None:
    """When the first certificate of a PEM text expires; None if it cannot be read."""
    try:
        return x509.load_pem_x509_certificates(text.encode())[0].not_valid_after_utc
    except ValueError:
        return None


def problems(
    certificate: Any, key: Any, *, now: datetime, names: tuple[str, str] = (CERTIFICATE, KEY)
) -> list[str]:
    """The problems with both variables. Each message names the variable and the fix, but never the key.

    `names`: of the variables.
    """
    of_certificate, of_key = names
    if not certificate and not key:
        return []
    if not certificate or not key:
        present, missing = names if certificate else names[::-1]
        return [f"{present} is set but {missing} is not. Set both for HTTPS, or neither for plain HTTP."]
    messages = []
    chain: list[x509.Certificate] = []
    private = None
    try:
        chain = x509.load_pem_x509_certificates(pem(certificate).encode())
    except OSError as error:
        messages.append(
            f"{of_certificate} cannot be read: {error}. Set it to a file on the control node, or to PEM text."
        )
    except ValueError as error:
        messages.append(
            f"{of_certificate} is not a certificate in PEM format: {error}. `openssl x509` converts it."
        )
    try:
        private = serialization.load_pem_private_key(pem(key).encode(), password=None)
    except OSError as error:
        # The value may be a key without its first line, taken for a path. It must not be shown.
        messages.append(
            f"{of_key} cannot be read: {error.strerror}."
            " Set it to a file on the control node, or to PEM text."
        )
    except (ValueError, TypeError, UnsupportedAlgorithm):
        messages.append(
            f"{of_key} is not a private key in PEM format without a password. `openssl pkey` converts it."
        )
    if not chain or private is None:
        return messages
    served = chain[0]
    places = [number for number, each in enumerate(chain, 1) if _is_key_of(private, each)]
    if places and places[0] != 1:
        return [
            f"{of_certificate} has its certificates in the wrong order: the first one must be that of the"
            f" key, but it is number {places[0]} of {len(chain)}. Put it first, and after it the certificate"
            " that signed it, and so on."
        ]
    if not places:
        messages.append(
            f"{of_key} is not the key of {of_certificate}."
            " Use the key with which the certificate was requested."
        )
    if now >= served.not_valid_after_utc:
        messages.append(
            f"{of_certificate} expired at {served.not_valid_after_utc:%Y-%m-%d %H:%M} UTC. Renew it."
        )
    elif now < served.not_valid_before_utc:
        messages.append(
            f"{of_certificate} is not valid before {served.not_valid_before_utc:%Y-%m-%d %H:%M} UTC."
            " Check it and the control node's clock."
        )
    return messages


def _is_key_of(key: PrivateKeyTypes, certificate: x509.Certificate) -> bool:
    try:
        return bool(key.public_key() == certificate.public_key())
    except (ValueError, UnsupportedAlgorithm):
        return False
