"""Signs evidence with the control node's private key, and verifies it with the public key."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ansible_collections.katago.fleet.plugins.module_utils.common import directories, files


class SigningError(Exception):
    """A key cannot be used. The message says which key, why, and what to do."""


def default_path() -> Path:
    """The default path of the private key: in the user's configuration, not next to the evidence."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return home / "katago-mcp-fleet" / "evidence.pem"


class Signer:
    """Signs with an Ed25519 key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = key.public_key()

    @classmethod
    def load(cls, path: Path) -> Signer:
        """Load the key from a file, and create it if it does not exist. Raises SigningError, OSError."""
        if not path.exists():
            _make(path)
        mode = path.stat().st_mode & 0o777
        if mode & 0o077:
            raise SigningError(
                f"{path} has mode {mode:04o}, so other users can read it. Run: chmod 600 {path}"
            )
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except (ValueError, TypeError) as error:
            raise SigningError(
                f"{path} is not a private key in PEM without a password. Set evidence_key to a new path;"
                " a key is created there"
            ) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise SigningError(
                f"{path} is not an Ed25519 key. Set evidence_key to a new path; a key is created there"
            )
        return cls(key)

    def sign(self, text: bytes) -> str:
        """Sign a text. Returns the signature in base64."""
        return base64.b64encode(self._key.sign(text)).decode()

    def publish(self, directory: Path) -> Path:
        """Write the public key into a directory, named by its fingerprint. Returns its file."""
        path = directory / f"{fingerprint(self.public)}.pem"
        if not path.exists():
            files.create(path, public_pem(self.public), mode=0o644)
        return path


def fingerprint(key: Ed25519PublicKey) -> str:
    """The fingerprint of a public key: the sha256 of its 32 bytes."""
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()


def public_pem(key: Ed25519PublicKey) -> bytes:
    """A public key in PEM."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def load_public(path: Path) -> Ed25519PublicKey:
    """Load a public key from a file. Raises SigningError, OSError."""
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except ValueError as error:
        raise SigningError(f"{path} is not a public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise SigningError(f"{path} is not an Ed25519 key")
    return key


def is_signed(key: Ed25519PublicKey, text: bytes, signature: str) -> bool:
    """Whether a signature, in base64, was made with this key for this text."""
    try:
        decoded = base64.b64decode(signature, validate=True)
        key.verify(decoded, text)
    except (InvalidSignature, ValueError):
        return False
    # Decoding ignores some bits of the last character; so compare the encoded text too.
    return base64.b64encode(decoded).decode() == signature


def _make(path: Path) -> None:
    directories.make(path.parent, mode=directories.PRIVATE)
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    files.create(path, pem, mode=0o600)
