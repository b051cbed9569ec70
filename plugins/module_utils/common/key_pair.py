"""A private key and its public part as two files: both complete and of each other, or recognised as not."""

from __future__ import annotations

import shutil
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ansible_collections.katago.fleet.plugins.module_utils.common import commands, file_set

Kind = Literal["certificate", "ssh"]
KEY_MODE, PUBLIC_MODE = 0o600, 0o644
_SECONDS = 60
_LONGEST_REASON = 500
_SCRATCH = ".key-pair-"


class KeyPairError(Exception):
    """The program that creates keys failed. The message has the end of its output."""


@dataclass(frozen=True)
class Pair:
    """The files of a key pair. `public`: the certificate, or the public key of SSH. `name`: of its owner."""

    kind: Kind
    key: Path
    public: Path
    name: str

    def is_complete(self) -> bool:
        """Whether both files are whole and belong together."""
        return _is_certificate_of(self) if self.kind == "certificate" else _is_public_key_of(self)

    def files(self) -> list[file_set.File]:
        """The present files, with the modes that they shall have. Raises OSError."""
        return [
            file_set.File(self.key, self.key.read_bytes(), KEY_MODE),
            file_set.File(self.public, self.public.read_bytes(), PUBLIC_MODE),
        ]


def ensure(pair: Pair, *, check: bool = False) -> bool:
    """Create a pair that is missing or not complete, and correct the modes; return whether anything changed.

    A run that is killed leaves the previous pair, or one that is not complete and that the next run creates
    again. `check`: change nothing, return whether anything would change.

    Raises OSError; KeyPairError. The previous files are in place again then.
    """
    is_complete = pair.is_complete()
    differing = [file for file in pair.files() if not file.is_current()] if is_complete else []
    scratch = _leftovers(pair)
    if check or (is_complete and not differing and not scratch):
        return not is_complete or bool(differing or scratch)
    for path in scratch:
        _remove(path)
    with file_set.replaced(differing if is_complete else _created(pair)):
        pass
    return True


def _created(pair: Pair) -> list[file_set.File]:
    """The files of a new pair. It is made in a directory that only root can enter, on the same disk."""
    with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=pair.key.parent) as directory:
        made = Pair(pair.kind, Path(directory, "key"), Path(directory, "key.pub"), pair.name)
        command = _certificate_command(made) if made.kind == "certificate" else _ssh_command(made)
        status, output = commands.ask(command, _SECONDS)
        if status or not made.is_complete():
            # Neither program prints keys.
            reason = " ".join(output.split())[-_LONGEST_REASON:] or "it printed nothing"
            raise KeyPairError(f"`{command[0]}` exited with status {status} and made no key pair: {reason}")
        return [
            file_set.File(pair.key, made.key.read_bytes(), KEY_MODE),
            file_set.File(pair.public, made.public.read_bytes(), PUBLIC_MODE),
        ]


def _certificate_command(pair: Pair) -> list[str]:
    return [
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-days", "3650", "-subj", f"/CN={pair.name}", "-addext", f"subjectAltName=DNS:{pair.name}"),
        *("-keyout", str(pair.key), "-out", str(pair.public)),
    ]


def _ssh_command(pair: Pair) -> list[str]:
    return ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", pair.name, "-f", str(pair.key)]


def _is_certificate_of(pair: Pair) -> bool:
    # With no password, OpenSSL would ask for one at the terminal.
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(pair.public, pair.key, password="")
    except (OSError, ValueError):
        return False
    return True


def _is_public_key_of(pair: Pair) -> bool:
    try:
        key, public = pair.key.read_text(), pair.public.read_text()
    except (OSError, ValueError):
        return False
    status, output = commands.ask(["ssh-keygen", "-y", "-P", "", "-f", "/dev/stdin"], _SECONDS, key)
    # Type and key; the comment is of no importance.
    return status == 0 and public.endswith("\n") and public.split()[:2] == output.split()[:2]


def _leftovers(pair: Pair) -> list[Path]:
    """What a run that was killed has left beside the files: it may have a key."""
    directory = pair.key.parent
    scratch = sorted(directory.glob(f"{_SCRATCH}*")) if directory.is_dir() else []
    return [*scratch, *file_set.leftovers([pair.key, pair.public])]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
