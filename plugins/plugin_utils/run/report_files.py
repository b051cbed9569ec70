"""Files that an operator asks a procedure to write on the control node."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ansible.errors import AnsibleActionFail

from ansible_collections.katago.fleet.plugins.module_utils.common import files

_MODE = 0o600


def write(variable: str, name: str, content: str) -> Path:
    """Write the content to the file that the variable names; its path.

    Raises:
        AnsibleActionFail: the file cannot be written. The message names the variable and the remedy.
    """
    return written(variable, name, lambda path: files.write(path, content.encode(), mode=_MODE))


def written(variable: str, name: str, write_to: Callable[[Path], object]) -> Path:
    """As `write`, with a function that writes to a path."""
    path = Path(name).expanduser()
    try:
        write_to(path)
    except OSError as error:
        raise AnsibleActionFail(
            f"{variable}: {path} cannot be written: {error.strerror}. Give a file in an existing directory"
            " that you may write to."
        ) from error
    return path
