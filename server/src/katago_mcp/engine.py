"""The engine's child process: KataGo's JSON analysis protocol over its pipes [Analysis_Engine.md].

Queries are pure ASCII without NaN: one invalid byte makes KataGo abort with all running queries. An
engine that stops reading, sends no JSON or exits is ended as a whole; all waiting queries fail with
`EngineGone` and the reason.
"""

import asyncio
import contextlib
import json
import os
import signal
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from katago_mcp.logs import Log
from katago_mcp.metrics import Metrics

LINE_LIMIT = 16 * 1024 * 1024
"""Maximum bytes of one reply. A reply with ownership has about 70 kB."""

GARBAGE_LIMIT = 3
"""Number of non-JSON lines after which the engine is ended."""

_TUNING_MARKS = {
    "Beginning GPU tuning": "the engine is tuning itself for this device",
    "Performing autotuning": "the engine is tuning itself for this device",
    "Tuning ": "the engine is tuning itself for this device",
    "Creating new timing cache": "the engine is building TensorRT's timing cache for this device",
    "Creating new plan cache": "the engine is building TensorRT's plan cache for this device",
}
_REASON_MARK = "what():"
_NOT_INHERITED = ("CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
_INHERITED = ("PATH", "HOME", "USER", "LANG", "TMPDIR", "XDG_CACHE_HOME", "POCL_CACHE_DIR")
_INHERITED_PREFIXES = ("LD_", "OCL_", "OPENCL_", "POCL_", "CUDA_", "NVIDIA_", "OMP_")
_QUIT_SECONDS = 2.0
_LAST_LINES = 5

_log = Log(__name__)

EndKind = Literal["exited", "hung", "garbage", "start_timeout", "config_error", "requested"]
Progress = Callable[[dict[str, Any]], Awaitable[None]]


class EngineGone(Exception):
    """The engine ended before it answered. The text says why, for example "exited with signal 9"."""


class EngineRefused(Exception):
    """The engine answered a query with an error. `field` is the query's field that caused it."""

    def __init__(self, message: str, error_field: str | None) -> None:
        super().__init__(message)
        self.field = error_field


class EngineSpawnError(Exception):
    """The engine's executable could not be started. The text contains its path and the reason."""


@dataclass(frozen=True)
class Command:
    """The engine's command line. `overrides` are KataGo settings that override its config file."""

    binary: Path
    network: Path
    config: Path
    home: Path | None = None
    overrides: Mapping[str, str] = field(default_factory=dict)
    write_seconds: float = 10.0
    human_network: Path | None = None

    def argv(self) -> list[str]:
        """The arguments. `-quit-without-waiting` makes the engine exit when stdin closes."""
        argv = [str(self.binary), "analysis", "-config", str(self.config)]
        argv += ["-model", str(self.network), "-quit-without-waiting"]
        if self.human_network is not None:
            argv += ["-human-model", str(self.human_network)]
        overrides = dict(self.overrides)
        if self.home is not None:
            overrides["homeDataDir"] = str(self.home)
        if overrides:
            argv += ["-override-config", ",".join(f"{k}={v}" for k, v in overrides.items())]
        return argv

    @staticmethod
    def environment(environ: Mapping[str, str]) -> dict[str, str]:
        """The environment variables that the engine needs; none that give access to credentials."""
        return {
            name: value
            for name, value in environ.items()
            if name not in _NOT_INHERITED and (name in _INHERITED or name.startswith(_INHERITED_PREFIXES))
        }


@dataclass
class _Pending:
    future: asyncio.Future[dict[str, Any]]
    partials: asyncio.Queue[dict[str, Any]] | None = None
    turns: int | None = None
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Answer:
    """The final reply to a query, and the engine's warnings about the query."""

    reply: dict[str, Any]
    warnings: tuple[str, ...]


class Engine:
    """One running KataGo process. `launch` creates, ends and reaps it."""

    def __init__(self, process: asyncio.subprocess.Process, command: Command, metrics: Metrics):
        self.pid = process.pid
        self.tuning: str | None = None
        self.lines = 0
        self.ended = asyncio.Event()
        self.end_kind: EndKind = "exited"
        self.end_text = ""
        self._process = process
        self._command = command
        self._metrics = metrics
        self._pending: dict[str, _Pending] = {}
        self._count = 0
        self._garbage = 0
        self._quit_text: str | None = None
        self._stderr: deque[str] = deque(maxlen=50)

    @property
    def reason(self) -> str | None:
        """The engine's own reason for aborting: its text on stderr after `what():`."""
        for line in reversed(self._stderr):
            if _REASON_MARK in line:
                return line.split(_REASON_MARK, 1)[1].strip()
        return None

    @property
    def last_lines(self) -> list[str]:
        """The last lines that the engine wrote to stderr."""
        return list(self._stderr)[-_LAST_LINES:]

    async def query(self, query: Mapping[str, Any], progress: Progress | None = None) -> Answer:
        """Send a query and wait for its final reply.

        `query` is a query of the analysis protocol without `id`. `progress` is called with every
        reply that has `isDuringSearch`. If the caller is cancelled, the search is terminated.

        Raises:
            EngineGone: if the engine ends first.
            EngineRefused: if the engine answers with an error.
            ValueError: if the query holds NaN or an infinity.
        """
        pending = _Pending(asyncio.get_running_loop().create_future())
        if progress is not None:
            pending.partials = asyncio.Queue()
        async with self._sent(query, pending):
            if progress is None or pending.partials is None:
                reply = await pending.future
            else:
                reply = await _with_progress(pending.future, pending.partials, progress)
        return Answer(reply, tuple(pending.warnings))

    async def query_turns(self, query: Mapping[str, Any], received: Progress) -> tuple[str, ...]:
        """Send a query with `analyzeTurns`, and wait until every turn has its final reply.

        `query["analyzeTurns"]` must list each turn once: KataGo answers duplicates only once, and
        an empty list never. `received` is called with each reply, in any order.
        Returns the engine's warnings. Raises as `query` does, after all received replies were passed on.
        """
        pending = _Pending(asyncio.get_running_loop().create_future())
        pending.partials = asyncio.Queue()
        pending.turns = len(query["analyzeTurns"])
        async with self._sent(query, pending):
            for _ in query["analyzeTurns"]:
                await received(await _next(pending.future, pending.partials))
        return tuple(pending.warnings)

    @contextlib.asynccontextmanager
    async def _sent(self, query: Mapping[str, Any], pending: _Pending) -> AsyncIterator[None]:
        """Send a query. When the context ends, terminate the query if it was not answered."""
        self._count += 1
        name = f"q{self._count}"
        line = _encode({**query, "id": name})
        if self.ended.is_set():
            raise EngineGone(self.end_text)
        self._pending[name] = pending
        try:
            await self._write(line)
            yield
        finally:
            del self._pending[name]
            if pending.future.done() and not pending.future.cancelled():
                # Retrieve the exception, so that asyncio does not log it as never retrieved.
                pending.future.exception()
            elif "action" not in query and not self.ended.is_set():
                self._terminate(name)

    def end(self, kind: EndKind, text: str) -> None:
        """Kill the engine, and fail all running queries with `text` as the reason."""
        if not self.ended.is_set():
            self.end_kind, self.end_text = kind, text
            self.ended.set()
            self._fail_pending()
        self._kill()

    def quit(self, text: str = "was stopped") -> None:
        """Make the engine exit by closing its stdin. `text` is the reason to report."""
        self._quit_text = text
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _terminate(self, name: str) -> None:
        # Not awaited, because the caller may be cancelled already.
        self._count += 1
        if self._process.stdin is not None and not self._process.stdin.is_closing():
            self._process.stdin.write(
                _encode({"id": f"t{self._count}", "action": "terminate", "terminateId": name})
            )

    async def _write(self, line: bytes) -> None:
        if self._process.stdin is None:
            raise EngineGone("its stdin is closed")
        try:
            async with asyncio.timeout(self._command.write_seconds):
                self._process.stdin.write(line)
                await self._process.stdin.drain()
        except TimeoutError as error:
            self.end("hung", f"hung: it read no input for {self._command.write_seconds:g} s")
            raise EngineGone(self.end_text) from error
        except (ConnectionError, RuntimeError) as error:
            # The pipe breaks shortly before the process is reaped. Wait for its exit status.
            await self.ended.wait()
            raise EngineGone(self.end_text) from error

    async def read_replies(self) -> None:
        """Dispatch replies until the engine's stdout closes, then record how the engine ended."""
        stdout = self._process.stdout
        while stdout is not None:
            try:
                line = await stdout.readline()
            except ValueError:
                if not self.ended.is_set():
                    self._count_garbage("a line that is too long")
                continue
            if not line:
                break
            self.lines += 1
            # After the end was decided, output is read only to empty the pipe.
            if not self.ended.is_set():
                self._dispatch(line)
        try:
            async with asyncio.timeout(_QUIT_SECONDS):
                code = await self._process.wait()
        except TimeoutError:
            self.end("exited", "closed its output but did not exit")
        else:
            # stderr may contain the reason. Let the task that reads it finish.
            await asyncio.sleep(0.05)
            self.end("exited", self._quit_text or _describe(code))

    async def read_log(self) -> None:
        """Read the engine's stderr: keep the last lines, detect tuning."""
        stderr = self._process.stderr
        rest = b""
        while stderr is not None and (chunk := await stderr.read(65536)):
            *lines, rest = (rest + chunk).split(b"\n")
            rest = rest[-65536:]
            for raw in lines:
                self._note(raw.decode(errors="replace").strip())
        self._note(rest.decode(errors="replace").strip())

    def _note(self, line: str) -> None:
        if not line:
            return
        self.lines += 1
        self._stderr.append(line[:1000])
        _log.debug("engine_stderr", line=line[:1000])
        for mark, what in _TUNING_MARKS.items():
            if mark in line:
                self.tuning = what

    def _dispatch(self, line: bytes) -> None:
        try:
            reply = json.loads(line)
        except (ValueError, RecursionError):
            self._count_garbage("a line that is not JSON")
            return
        if not isinstance(reply, dict):
            self._count_garbage("JSON that is not an object")
            return
        name = reply.get("id")
        pending = self._pending.get(name) if isinstance(name, str) else None
        if pending is None:
            # A terminated query still sends a last result. Only a reply without an id is an error.
            if name is None:
                self._metrics.protocol_errors.inc()
                _log.warning("engine_reply_without_id", reply=str(reply.get("error"))[:200])
            return
        if "error" in reply:
            error_field = reply.get("field")
            _resolve_error(
                pending.future,
                EngineRefused(str(reply["error"]), None if error_field is None else str(error_field)),
            )
        elif "warning" in reply:
            pending.warnings.append(f"{reply.get('field', 'query')}: {reply['warning']}")
        elif reply.get("isDuringSearch") is True:
            if pending.partials is not None and pending.turns is None:
                pending.partials.put_nowait(reply)
        elif not pending.future.done():
            if pending.turns is not None and pending.partials is not None:
                pending.turns -= 1
                pending.partials.put_nowait(reply)
            if not pending.turns:
                pending.future.set_result(reply)

    def _count_garbage(self, what: str) -> None:
        self._garbage += 1
        self._metrics.protocol_errors.inc()
        _log.warning("engine_garbage", what=what, count=self._garbage)
        if self._garbage >= GARBAGE_LIMIT:
            self.end("garbage", f"sent {self._garbage} lines that are not of its protocol")

    def _fail_pending(self) -> None:
        for pending in self._pending.values():
            _resolve_error(pending.future, EngineGone(self.end_text))

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    async def close(self) -> None:
        """Let the engine quit, kill it if it does not, and reap it."""
        self.quit()
        try:
            async with asyncio.timeout(0 if self.ended.is_set() else _QUIT_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._kill()
            await self._process.wait()
        # Also kill children that remain in the engine's process group.
        self._kill()


@contextlib.asynccontextmanager
async def launch(command: Command, environ: Mapping[str, str], metrics: Metrics) -> AsyncIterator[Engine]:
    """Start an engine. When the context ends, the engine is ended and reaped, also after an exception.

    Raises:
        EngineSpawnError: if the executable cannot be started.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *command.argv(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=command.environment(environ),
            limit=LINE_LIMIT,
            start_new_session=True,
        )
    except OSError as error:
        raise EngineSpawnError(f"{command.binary}: {error.strerror}") from error
    engine = Engine(process, command, metrics)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(engine.read_replies())
        tasks.create_task(engine.read_log())
        try:
            yield engine
        finally:
            await engine.close()


async def _with_progress(
    final: asyncio.Future[dict[str, Any]],
    partials: asyncio.Queue[dict[str, Any]],
    progress: Progress,
) -> dict[str, Any]:
    async def report() -> None:
        while True:
            await progress(await partials.get())

    async with asyncio.TaskGroup() as tasks:
        reporter = tasks.create_task(report())
        await asyncio.wait([final])
        reporter.cancel()
    return final.result()


async def _next(
    final: asyncio.Future[dict[str, Any]], replies: asyncio.Queue[dict[str, Any]]
) -> dict[str, Any]:
    """The next of several replies. Raises the failure of `final` after all received replies were returned."""
    getter = asyncio.ensure_future(replies.get())
    try:
        await asyncio.wait({getter, final}, return_when=asyncio.FIRST_COMPLETED)
        return getter.result() if getter.done() else final.result()
    finally:
        getter.cancel()


def _encode(query: Mapping[str, Any]) -> bytes:
    return json.dumps(query, ensure_ascii=True, allow_nan=False).encode("ascii") + b"\n"


def _describe(code: int) -> str:
    return f"exited with signal {-code}" if code < 0 else f"exited with status {code}"


def _resolve_error(future: asyncio.Future[dict[str, Any]], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
