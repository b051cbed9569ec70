"""Who works on this control node, for records."""

from __future__ import annotations

import getpass
import os
import socket


def actor() -> str:
    """The user, the one behind sudo where there is one, and the control node: user@node."""
    return f"{os.environ.get('SUDO_USER') or getpass.getuser()}@{socket.gethostname()}"
