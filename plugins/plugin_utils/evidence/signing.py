"""The control node's key that signs evidence, and its public half by which anybody can check it."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ansible_collections.katago.fleet.plugins.module_utils.common import files


class SigningError(Exception):
    """A key cannot be used; the message says which, why and what to do."""


def default_path() -> Path:
    """Where the private key is kept: with the user's configuration, not with what it signs."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return home / "katago-mcp-fleet" / "evidence.pem"


class Signer:
    """Signs with an Ed25519 key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = key.public_key()

    @classmethod
    def load(cls, path: Path) -> Signer:
        """The key of a file, made when there is none. Raises SigningError, OSError."""
        if not path.exists():
            _make(path)
        mode = path.stat().st_mode & 0o777
        if mode & 0o077:
            raise SigningError(f"{path} has mode {mode:04o} and may be read by others: chmod 600 {path}")
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except (ValueError, TypeError) as error:
            raise SigningError(
                f"{path} is no private key in PEM without a password; name another file as evidence_key,"
                " and one is made there"
            ) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise SigningError(
                f"{path} is no Ed25519 key; name another file as evidence_key, and one is made there"
            )
        return cls(key)

    def sign(self, text: bytes) -> str:
        """The signature of a text, in base64."""
        return base64.b64encode(self._key.sign(text)).decode()

    def publish(self, directory: Path) -> Path:
        """Keep the public key in a directory, under its fingerprint; return its file."""
        path = directory / f"{fingerprint(self.public)}.pem"
        if not path.exists():
            files.create(path, public_pem(self.public), mode=0o644)
        return path


def fingerprint(key: Ed25519PublicKey) -> str:
    """A public key's name: the sha256 of its 32 bytes."""
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()


def public_pem(key: Ed25519PublicKey) -> bytes:
    """A public key in PEM."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def load_public(path: Path) -> Ed25519PublicKey:
    """The public key of a file. Raises SigningError, OSError."""
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except ValueError as error:
        raise SigningError(f"{path} is no public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise SigningError(f"{path} is no Ed25519 key")
    return key


def is_signed(key: Ed25519PublicKey, text: bytes, signature: str) -> bool:
    """Whether a signature, in base64, is the key's own of a text."""
    try:
        decoded = base64.b64decode(signature, validate=True)
        key.verify(decoded, text)
    except (InvalidSignature, ValueError):
        return False
    # The last character has bits that decoding passes over.
    return base64.b64encode(decoded).decode() == signature


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    files.create(path, pem, mode=0o600)
