"""Whether a host's disks take what a running service writes: tried, since figures do not tell everything."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

# What the service needs at least to start: its engine keeps compiled kernels.
WRITTEN_BY_SERVICE = (Path("/var/lib/katago-mcp"), Path("/var/cache/katago-mcp"))
_TRIED_BYTES = 256 << 10


def obstacles(directories: Iterable[Path] = WRITTEN_BY_SERVICE) -> Iterator[str]:
    """Why a directory takes no new file of some size, in words; one that is not there is passed over."""
    for directory in directories:
        if not directory.is_dir():
            continue
        try:
            with tempfile.TemporaryFile(dir=directory) as file:
                file.write(bytes(_TRIED_BYTES))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            yield f"{directory} cannot be written: {os.strerror(error.errno or 0)}"
