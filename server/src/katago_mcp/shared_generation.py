"""The generation of shared answers that a host uses, and the order to start another one.

Answers of an earlier generation are never used. The generation is a number in the shared cache, so that hosts
agree on it whatever their clocks show. Each host also keeps it on disk: a shared cache that returns with old
entries, or without the number, starts another generation.

Clearing a cache orders another generation by replacing a file, which needs no space on the disk, no
connection to the shared cache, and no running server.
"""

import contextlib
import os
import time
from pathlib import Path

GENERATION_FILE = "shared-generation"
"""The file with the generation, and the order that it was started for."""

ORDER_FILE = "shared-order"
"""The empty file whose modification time identifies the last order. No clocks are compared."""

_NO_ORDER = 0


class Generation:
    """The generation that this server uses. `number` is 0 until it knows one.

    `directory`: the directory of the cache on disk.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.number, kept = _read(directory / GENERATION_FILE)
        self._unwritten = 0
        self._done = (kept, self._unwritten)

    @property
    def order(self) -> tuple[int, int]:
        """The last order for another generation."""
        return _order(self._directory / ORDER_FILE), self._unwritten

    @property
    def is_over(self) -> bool:
        """Whether another generation was ordered and has not been started."""
        return self.order != self._done

    def end(self) -> None:
        """Order another generation of this server alone, until `order_another` works."""
        self._unwritten += 1

    def start(self, number: int, order: tuple[int, int]) -> None:
        """Use a generation that was started for an order."""
        self.number, self._done = number, order

    def adopt(self, number: int) -> None:
        """Use a generation that another host has started."""
        self.number = number

    def write(self) -> None:
        """Keep the generation on disk. Blocks. Raises OSError."""
        file = self._directory / GENERATION_FILE
        scratch = _beside(file)
        scratch.write_text(f"{self.number} {self._done[0]}\n")
        scratch.replace(file)


def order_another(directory: Path) -> None:
    """Order another generation, also without the server, or beside it.

    Any user who may write the directory can do that.

    Raises:
        OSError: if the order cannot be written.
    """
    file = directory / ORDER_FILE
    scratch = _beside(file)
    scratch.touch()
    now = time.time_ns()
    os.utime(scratch, ns=(now, now))
    scratch.replace(file)


def _read(file: Path) -> tuple[int, int]:
    """The generation and its order. A damaged file has an order that was never given, so another starts."""
    try:
        number, order = map(int, file.read_text("ascii").split())
    except FileNotFoundError:
        return 0, _NO_ORDER
    except (OSError, ValueError):
        return 0, _NO_ORDER - 1
    return max(number, 0), order


def _order(file: Path) -> int:
    # There is no file until a cache is cleared for the first time.
    with contextlib.suppress(OSError):
        return file.stat().st_mtime_ns
    return _NO_ORDER


def _beside(file: Path) -> Path:
    return file.with_name(f"{file.name}.new-{os.getpid()}")
