"""Collectors at work on a host: all at once, each in a process group of its own, bounded, and redacted.

What hangs, fails or does not end costs its own item. No more than its limit is held of any item, and
nothing of it is handed out before it was redacted; what cannot be redacted is withheld.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import glob
import json
import os
import selectors
import signal
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import redaction, secret_values, workers
from ansible_collections.katago.fleet.plugins.module_utils.evidence.items import (
    REDACTION_SECONDS,
    SECONDS,
    Collector,
    Tier,
    of,
)
from ansible_collections.katago.fleet.plugins.module_utils.service import host_secrets, http

_BLOCK = 1 << 16
_WORDS = 2048
_LONGEST_PROBLEM = 300
_PLACES_SECONDS = 1.0
_GRACE_SECONDS = 1.0
_REAPING_SECONDS = 0.05
_MOST_PROCESSES = 64
_NOWHERE = {"pid": "0", "group": f"system.slice/{paths.SERVICE_UNIT}"}
_ENVIRONMENT = {"LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": "", "SYSTEMD_URLIFY": "0"}

Write = Callable[[bytes], None]


class TroubleError(Exception):
    """What a look, a file or an address got is not all that it should be; the text says why."""


class Buffer:
    """Of what is added, the newest or the first bytes, never more than `limit` and one block."""

    def __init__(self, limit: int, keep: Literal["newest", "first"]) -> None:
        self._limit, self._keep = limit, keep
        self._content = bytearray()
        self.seen = 0

    @property
    def cut(self) -> bool:
        """Whether more was added than is kept."""
        return self.seen > self._limit

    @property
    def full(self) -> bool:
        """Whether nothing that may still come would be kept."""
        return self.cut and self._keep == "first"

    def add(self, block: bytes) -> None:
        """Take what fits, or let go of what is oldest."""
        self.seen += len(block)
        self._content += block
        if self._keep == "newest":
            del self._content[: -self._limit]
        else:
            del self._content[self._limit :]

    def whole_lines(self, *, ended: bool) -> bytes:
        """What is kept, without a line that was cut: half of a secret would not be found in it.

        `ended`: whether what was read came to its own end.
        """
        content = bytes(self._content)
        if self.cut and self._keep == "newest":
            content = content.partition(b"\n")[2]
        if self.full or not ended:
            content = content[: content.rfind(b"\n") + 1]
        return content


@dataclass(frozen=True)
class Raw:
    """What a collector got, not redacted. `exit` is a command's status, `seen` the bytes that there were.

    `began`: when, by the host's clock, in seconds since the epoch; 0 when it could not be started.
    `deadline`: the seconds that it was given.
    """

    content: bytes
    seconds: float
    exit: int | None = None
    problem: str = ""
    seen: int = 0
    began: float = 0.0
    deadline: float = 0.0


@dataclass
class _Running:
    collector: Collector
    pid: int
    pipes: dict[int, Buffer]
    began: float
    buffer: Buffer
    errors: Buffer
    began_at: float
    note: str = ""
    status: int | None = None
    process: subprocess.Popen[bytes] | None = None


class _Gathering:
    """Collectors in flight."""

    def __init__(self, end: float) -> None:
        self._selector = selectors.DefaultSelector()
        self._running: dict[str, _Running] = {}
        self._end = end
        self.raw: dict[str, Raw] = {}

    def start(self, collector: Collector) -> None:
        began = time.monotonic()
        try:
            running = self._started(collector, began)
        except OSError as error:
            said, deadline = _said(error, collector), min(collector.seconds, self._end - began)
            self.raw[collector.name] = Raw(b"", 0.0, problem=said, deadline=deadline)
            return
        self._running[collector.name] = running
        for pipe in running.pipes:
            os.set_blocking(pipe, False)
            self._selector.register(pipe, selectors.EVENT_READ, running)

    def wait(self) -> dict[str, Raw]:
        while self._running:
            now = time.monotonic()
            soonest = min(self._deadline(running) for running in self._running.values())
            reaping = any(not running.pipes for running in self._running.values())
            patience = min(_REAPING_SECONDS, soonest - now) if reaping else soonest - now
            for key, _ in self._selector.select(max(0.0, patience)):
                self._read(key.data, key.fd)
            now = time.monotonic()
            for running in list(self._running.values()):
                if running.buffer.full:
                    self._finish(running, "")
                elif not running.pipes and self._reaped(running):
                    self._finish(running, _status(running), ended=True)
                elif now >= self._deadline(running):
                    self._finish(running, f"no end within {self._allowed(running):.3g} s")
        return self.raw

    def _started(self, collector: Collector, began: float) -> _Running:
        process, note, began_at = None, "", time.time()
        if collector.command:
            try:
                process, output, words = _launched(collector.command)
            except FileNotFoundError:
                if not collector.instead:
                    raise
                note = f"{collector.command[0]} is not on this host; {', '.join(collector.instead)} were read"
        if process is None:
            pid, output, words = _forked(_work(collector))
        else:
            pid = process.pid
        buffer, errors = Buffer(collector.limit, collector.keep), Buffer(_WORDS, "newest")
        pipes = {output: buffer, words: errors}
        return _Running(collector, pid, pipes, began, buffer, errors, began_at, note=note, process=process)

    def _deadline(self, running: _Running) -> float:
        return min(running.began + running.collector.seconds, self._end)

    def _allowed(self, running: _Running) -> float:
        return self._deadline(running) - running.began

    def _read(self, running: _Running, pipe: int) -> None:
        try:
            block = os.read(pipe, _BLOCK)
        except BlockingIOError:
            return
        if block:
            running.pipes[pipe].add(block)
        else:
            self._close(running, pipe)

    def _close(self, running: _Running, pipe: int) -> None:
        self._selector.unregister(pipe)
        os.close(pipe)
        del running.pipes[pipe]

    def _reaped(self, running: _Running) -> bool:
        if running.process is not None:
            running.status = running.process.poll()
            return running.status is not None
        try:
            pid, status = os.waitpid(running.pid, os.WNOHANG)
        except ChildProcessError:
            return True
        if pid:
            running.status = os.waitstatus_to_exitcode(status)
        return bool(pid)

    def _finish(self, running: _Running, problem: str, *, ended: bool = False) -> None:
        # Whatever it started and left behind goes with it.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(running.pid, signal.SIGKILL)
        for pipe in list(running.pipes):
            self._close(running, pipe)
        if not ended:
            self._reaped(running)
        buffer, collector = running.buffer, running.collector
        problems = [running.note, problem]
        if buffer.cut:
            problems.append(f"the {collector.keep} {collector.limit} bytes are kept")
        del self._running[collector.name]
        self.raw[collector.name] = Raw(
            content=buffer.whole_lines(ended=ended),
            seconds=time.monotonic() - running.began,
            exit=running.status if running.process and ended else None,
            problem="; ".join(filter(None, problems)),
            seen=buffer.seen,
            began=running.began_at,
            deadline=self._allowed(running),
        )


def gather(collectors: Sequence[Collector], seconds: float) -> dict[str, Raw]:
    """Run collectors at the same time, for at most so many seconds; what each of them got, by name."""
    gathering = _Gathering(time.monotonic() + seconds)
    for collector in collectors:
        gathering.start(collector)
    return gathering.wait()


def collect(tier: Tier) -> Iterator[dict[str, Any]]:
    """Every item of a tier, redacted: `content` packed by `pack`, or why there is none.

    `withheld` says why an item may not leave the host, `redacted` how many secrets were taken out.
    """
    end = time.monotonic() + worst_seconds(tier)
    secrets = workers.Measuring()
    secrets.start("places", places, _PLACES_SECONDS)
    # Their answers are read when the collectors have ended.
    patience = _PLACES_SECONDS + SECONDS[tier] + _GRACE_SECONDS
    secrets.start("kept", lambda: _plain(host_secrets.kept(Path("/"))), patience)
    # Each by itself: reading what a process was given can hang with the process.
    processes = {f"given-{pid}": pid for pid in host_secrets.of_unit(paths.PROC)[:_MOST_PROCESSES]}
    for name, pid in processes.items():
        secrets.start(name, functools.partial(_given, pid), patience)
    secrets.wait({"places"}, at_most=_PLACES_SECONDS)
    found = secrets.entries.get("places", {}).get("value", _NOWHERE)
    collectors = [collector.placed(found) for collector in of(tier)]
    raw = gather(collectors, SECONDS[tier])
    known = secrets.results()
    redactor = redaction.Redactor(secret for name in ("kept", *processes) for secret in _secrets(known[name]))
    unknown = str(known["kept"].get("unknown", ""))
    cleaning = workers.Measuring()
    # What the collectors have left of their time is there for a host that is slow.
    patience = max(REDACTION_SECONDS[tier], end - time.monotonic())
    for collector in collectors:
        check = functools.partial(cleaned, collector, raw[collector.name], redactor, unknown)
        cleaning.start(collector.name, check, patience)
    results = cleaning.results()
    for collector in collectors:
        entry = results[collector.name]
        result = entry.get("value") or {"withheld": f"it could not be redacted: {entry['unknown']}"}
        got = raw[collector.name]
        yield {
            "name": collector.name,
            "exit": got.exit,
            "began": round(got.began, 3),
            "seconds": round(got.seconds, 3),
            "deadline": round(got.deadline, 3),
            "source_bytes": got.seen,
            "problem": "",
            "redacted": 0,
            "withheld": "",
            **result,
        }


def worst_seconds(tier: Tier) -> float:
    """How long a tier may take on a host, whatever hangs."""
    return _PLACES_SECONDS + SECONDS[tier] + _GRACE_SECONDS + REDACTION_SECONDS[tier]


def places() -> dict[str, str]:
    """The service's main process and the path of its control group, as the kernel tells them."""
    processes = host_secrets.of_unit(paths.PROC)
    for pid in processes:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if int(fields[1]) not in processes:
            groups = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
            members = [line.split(":", 2)[2].strip("/") for line in groups]
            return {
                "pid": str(pid),
                "group": next(path for path in members if paths.SERVICE_UNIT in path),
            }
    return _NOWHERE


def cleaned(
    collector: Collector, raw: Raw, redactor: redaction.Redactor, unknown: str = ""
) -> dict[str, Any]:
    """An item as it may leave the host. `unknown`: why the host's secrets are not known, if they are not."""
    if unknown and not collector.figures:
        return {"withheld": f"the secrets of this host are not known: {unknown}"}
    content = raw.content
    if b"\0" in content:
        return {"withheld": "it is no text, in which secrets could be found"}
    if raw.seen and not content:
        return {
            "withheld": f"what was read of it is a line that was cut{_after(_problem(raw, redactor))}",
        }
    if collector.journal:
        content = readable(content)
    content, count = redactor.redact(content)
    # Looks take out what they know by its place.
    count = max(count, content.count(b"[redacted"))
    return {"content": pack(content), "problem": _problem(raw, redactor), "redacted": count}


def pack(content: bytes) -> str:
    """Bytes as text, small."""
    return base64.b64encode(zlib.compress(content)).decode()


def unpack(packed: str, limit: int) -> bytes:
    """What `pack` made; ValueError when that is none, or has more bytes than `limit`."""
    try:
        inflating = zlib.decompressobj()
        content = inflating.decompress(base64.b64decode(packed, validate=True), limit + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if len(content) > limit:
        raise ValueError(f"more than {limit} bytes")
    return content


def readable(lines: bytes) -> bytes:
    """journalctl's JSON with the texts that it gives as numbers as texts, or no secret is found in them."""
    made = []
    for line in lines.splitlines():
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            if any(isinstance(value, list) for value in entry.values()):
                line = json.dumps({name: _text(value) for name, value in entry.items()}).encode()
        made.append(line + b"\n")
    return b"".join(made)


def _text(value: Any) -> Any:
    if isinstance(value, list):
        if value and all(isinstance(each, int) and 0 <= each < 256 for each in value):
            return bytes(value).decode(errors="replace")
        return [_text(each) for each in value]
    return value


def _after(words: str) -> str:
    return f": {words}" if words else ""


def _problem(raw: Raw, redactor: redaction.Redactor) -> str:
    """What went wrong, redacted and then cut."""
    words = redactor.redact(raw.problem.encode(errors="replace"))[0].decode(errors="replace")
    return redaction.end_of(" ".join(words.split()), _LONGEST_PROBLEM)


def _given(pid: int) -> list[tuple[str, str]]:
    return _plain(host_secrets.given([pid], paths.PROC))


def _plain(secrets: Sequence[redaction.Secret]) -> list[tuple[str, str]]:
    return [(base64.b64encode(secret.value).decode(), secret.name) for secret in secrets]


def _secrets(entry: Mapping[str, Any]) -> list[redaction.Secret]:
    return [redaction.Secret(base64.b64decode(value), name) for value, name in entry.get("value", [])]


def _said(error: OSError, collector: Collector) -> str:
    return f"{collector.command[0] if collector.command else collector.name}: {error.strerror}"


def _status(running: _Running) -> str:
    if running.status == 0:
        return ""
    errors = running.errors
    words = errors.whole_lines(ended=True).decode(errors="replace").strip()
    if errors.cut and not words:
        words = "its words are a line that was cut"
    if running.process is None:
        return words or "its process died"
    return f"status {running.status}: {words}".rstrip(": ")


def _launched(command: Sequence[str]) -> tuple[subprocess.Popen[bytes], int, int]:
    """A command in a process group of its own, and the pipes with its output and its words of trouble."""
    output, output_end = os.pipe()
    words, words_end = os.pipe()
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output_end,
            stderr=words_end,
            env={**os.environ, **_ENVIRONMENT},
            cwd="/",
            process_group=0,
        )
    except OSError:
        os.close(output)
        os.close(words)
        raise
    finally:
        os.close(output_end)
        os.close(words_end)
    return process, output, words


def _forked(work: Callable[[Write], None]) -> tuple[int, int, int]:
    """A process of its own that works, and the pipes with what it writes and what it says of trouble."""
    output, output_end = os.pipe()
    words, words_end = os.pipe()
    try:
        pid = workers.fork(lambda: _collect(work, output_end, words_end))
    except OSError:
        for pipe in (output, output_end, words, words_end):
            os.close(pipe)
        raise
    os.close(output_end)
    os.close(words_end)
    return pid, output, words


def _collect(work: Callable[[Write], None], output: int, words: int) -> None:
    try:
        work(lambda content: workers.write_all(output, content))
    except Exception as error:
        trouble = _trouble(error).encode(errors="replace")
        os.write(words, trouble if len(trouble) <= _WORDS else type(error).__name__.encode())
        raise


def _trouble(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}"
    return str(error) if isinstance(error, TroubleError) else f"{type(error).__name__}: {error}"


def _work(collector: Collector) -> Callable[[Write], None]:
    if collector.look:
        return _LOOKS[collector.look]
    if collector.address:
        return lambda write: _ask(collector, write)
    files = collector.instead if collector.command else collector.files
    return lambda write: _read_files(files, collector, write)


def _read_files(files: Sequence[str], collector: Collector, write: Write) -> None:
    if len(files) == 1 and not glob.has_magic(files[0]):
        _copy(Path(files[0]), collector, write)
        return
    for pattern in files:
        matches = sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]  # noqa: PTH207 (pathlib takes no absolute one)
        for path in matches:
            write(f"==> {path} <==\n".encode(errors="replace"))
            try:
                _copy(Path(path), collector, write)
            except OSError as error:
                write(f"{error.strerror}\n".encode())
            write(b"\n")


def _copy(path: Path, collector: Collector, write: Write) -> None:
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if collector.keep == "newest" and size > collector.limit:
            # One more than is kept, so that it shows that there is more.
            file.seek(size - collector.limit - 1)
        while block := file.read(_BLOCK):
            write(block)


def _ask(collector: Collector, write: Write) -> None:
    """What the running process is asked for, where it listens, whatever release is the current one."""
    section, _, path = collector.address.partition(":")
    config = _configuration()
    answer = http.ask(
        config[section]["host"],
        config[section]["port"],
        path,
        seconds=collector.seconds,
        tls=section == "server" and http.secured(config),
        limit=collector.limit + 1,
    )
    if answer is None:
        raise TroubleError("no answer")
    write(answer[1])
    if answer[0] != 200:
        raise TroubleError(f"status {answer[0]}")


def _configuration() -> dict[str, Any]:
    try:
        text = Path(f"/proc/{places()['pid']}/cwd/config.json").read_text()
    except OSError:
        text = paths.CONFIG.read_text()
    config: dict[str, Any] = json.loads(text)
    return config


def _processes(write: Write) -> None:
    """What runs in the unit's control group, one JSON line each, and then what each was started with.

    Reading the latter can hang with the process.
    """
    processes = host_secrets.of_unit(paths.PROC)
    for pid in processes:
        directory = Path(f"/proc/{pid}")
        kernel = {
            name: _lines(directory / name)
            for name in ("status", "wchan", "io", "limits", "oom_score", "cgroup", "schedstat")
        }
        links = {name: _target(directory / name) for name in ("exe", "cwd")}
        write(
            json.dumps({"pid": pid, **links, "open_files": _count(directory / "fd"), **kernel}).encode()
            + b"\n"
        )
    for pid in processes:
        directory = Path(f"/proc/{pid}")
        words = host_secrets.texts(_bytes(directory / "cmdline"))
        values = list(secret_values.in_arguments(words))
        variables = host_secrets.as_variables(host_secrets.texts(_bytes(directory / "environ")))
        started = {
            "pid": pid,
            "arguments": [redaction.replace_values(word, values) for word in words],
            "environment": {
                name: redaction.MARK.decode() if secret_values.is_secret_variable(name) else value
                for name, value in variables.items()
            },
        }
        write(json.dumps(started).encode() + b"\n")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _lines(path: Path) -> list[str]:
    return _bytes(path).decode(errors="replace").splitlines()


def _target(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError as error:
        return f"({error.strerror})"


def _count(directory: Path) -> int | None:
    try:
        return sum(1 for _ in directory.iterdir())
    except OSError:
        return None


_LOOKS: dict[str, Callable[[Write], None]] = {"processes": _processes}
