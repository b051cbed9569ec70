"""The cache that hosts share: what one analysed, another does not, whatever happens to the shared cache."""

import contextlib
import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import certificates
import shared_server
from katago_mcp import cli
from katago_mcp.client import PROBE_VARIABLE
from katago_mcp.config import ConfigError, load
from shared_server import PASSWORD, CacheServer
from support import ADMIN_TOKEN, ANALYZE_TOKEN, Running, Site, eventually

pytestmark = pytest.mark.skipif(
    shared_server.PROGRAM is None, reason="no redis-server or valkey-server: install Debian's redis-server"
)

KEY = "a key that all hosts of the fleet share"
TIMEOUT = 10
"""Seconds, so that a busy machine is no fault. Tests of faults use a short one."""


def host(directory: Path, url: str, key: str = KEY, **shared: Any) -> Site:
    """A host of a fleet whose hosts share a cache."""
    directory.mkdir()
    site = Site(directory)
    site.write_tokens()
    (directory / "session.key").write_text(key)
    site.write(
        auth={"sessionKeyFile": "session.key"},
        sharedCache={"url": url, "timeoutSeconds": TIMEOUT, **shared},
    )
    return site


def state(running: Running) -> str | None:
    for name in ("off", "up", "down"):
        if running.metric("katago_cache_shared_state", state=name) == 1:
            return name
    return None


@contextlib.contextmanager
def up(site: Site) -> Iterator[Running]:
    """A running host that uses the shared cache."""
    with site.serving() as running:
        eventually(lambda: state(running) == "up", f"the shared cache is used: {running.log.read_text()}")
        yield running


def ask(site: Site, *moves: str, **request: object) -> dict[str, Any]:
    """Analyse the position after moves. Returns the structured content."""
    position = {"moves": list(moves), "boardXSize": 9, "boardYSize": 9}
    report = site.call(("analyzePosition", {"position": position}), token=ANALYZE_TOKEN, **request)
    assert report["ok"], report
    answer: dict[str, Any] = report["results"][0]["structured"]
    return answer


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[CacheServer]:
    with shared_server.running(tmp_path / "shared") as server:
        yield server


@contextlib.contextmanager
def two(tmp_path: Path, url: str, **shared: Any) -> Iterator[tuple[Site, Running, Site, Running]]:
    """Two running hosts that use the same shared cache."""
    first, second = host(tmp_path / "one", url, **shared), host(tmp_path / "two", url, **shared)
    with up(first) as one, up(second) as other:
        yield first, one, second, other


def shared(running: Running, what: str) -> float | None:
    return running.metric(f"katago_cache_shared_{what}_total")


def errors(running: Running) -> dict[str, float]:
    """The failures that happened, by reason."""
    counts = {
        dict(labels)["reason"]: value
        for (name, labels), value in running.scrape().items()
        if name == "katago_cache_shared_errors_total"
    }
    return {reason: count for reason, count in counts.items() if count}


def events(running: Running, name: str) -> list[dict[str, Any]]:
    return [event for event in running.events() if event["event"] == name]


def long(case: str) -> Any:
    """A case that takes long and is of the same kind as the others."""
    return pytest.param(case, marks=pytest.mark.long)


@pytest.mark.parametrize("how", ["socket", "tls", long("port"), long("password"), long("user")])
def test_a_position_that_one_host_analysed_is_not_analysed_by_another(tmp_path: Path, how: str) -> None:
    options: tuple[str, ...] = ()
    settings: dict[str, Any] = {}
    if how == "password":
        options = ("--requirepass", PASSWORD)
    if how == "user":
        options = ("--user", "katago", "on", f">{PASSWORD}", "~katago-mcp:*", "+get", "+set", "+getrange")
    if how in ("password", "user"):
        (tmp_path / "password").write_text(f"{PASSWORD}\n")
        settings["passwordFile"] = str(tmp_path / "password")
    if how == "tls":
        pair = certificates.files(tmp_path)
        certificates.write(pair, address="127.0.0.1")
        settings["caFile"] = str(pair.certificate)
        options = ("--tls-cert-file", str(pair.certificate), "--tls-key-file", str(pair.key))
        options += ("--tls-ca-cert-file", str(pair.certificate), "--tls-auth-clients", "no")
    with shared_server.running(
        tmp_path / "shared", *options, socket=how == "socket", tls=how == "tls"
    ) as server:
        url = server.url.replace("//", "//katago@") if how == "user" else server.url
        with two(tmp_path, url, **settings) as (first, one, second, other):
            fresh = ask(first, "D4")
            eventually(lambda: len(server.entries()) == 1, "the answer is in the shared cache")
            again = ask(second, "D4")
            assert (fresh["cached"], again["cached"]) == (False, True)
            assert fresh | {"cached": True, "summary": again["summary"]} == again
            assert second.queries() == []
            assert (shared(other, "hits"), shared(other, "misses")) == (1, 0)
            assert other.metric("katago_cache_hits_total") == 1
            # Now the host has it itself.
            server.stop()
            assert ask(second, "D4")["cached"]
            assert second.queries() == []
            assert (errors(one), shared(other, "hits")) == ({}, 1)


def test_a_review_takes_the_turns_that_another_host_analysed(tmp_path: Path, cache: CacheServer) -> None:
    game = {"sgf": "(;SZ[9];B[ee];W[cc];B[gg];W[cg])"}
    with two(tmp_path, cache.url) as (first, _, second, other):
        assert first.call(("findMistakes", {**game, "lastMove": 3}), token=ANALYZE_TOKEN)["ok"]
        eventually(lambda: len(cache.entries()) == 4, "the turns are shared")
        report = second.call(("findMistakes", game), token=ANALYZE_TOKEN)
        assert report["results"][0]["structured"]["turnsCached"] == 4
        assert [query["analyzeTurns"] for query in second.queries()] == [[4]]
        assert shared(other, "hits") == 4


def test_hosts_with_different_keys_do_not_share(tmp_path: Path, cache: CacheServer) -> None:
    first, second = host(tmp_path / "one", cache.url), host(tmp_path / "two", cache.url, KEY + "!")
    with up(first), up(second) as other:
        ask(first, "D4")
        eventually(lambda: len(cache.entries()) == 1, "the answer is in the shared cache")
        assert not ask(second, "D4")["cached"]
        eventually(lambda: len(cache.entries()) == 2, "both answers are there")
        assert errors(other) == {}


@pytest.mark.parametrize("what", ["configuration", long("network")])
def test_a_host_with_another_engine_configuration_or_network_does_not_use_the_answer(
    tmp_path: Path, cache: CacheServer, what: str
) -> None:
    first, second = host(tmp_path / "one", cache.url), host(tmp_path / "two", cache.url)
    if what == "configuration":
        second.behave(leads=[1.5])
    else:
        # The name, also the one that the engine reports, is the same.
        (second.directory / "net.bin.gz").write_bytes(b"weights of another training")
    with up(first), up(second):
        ask(first, "D4")
        eventually(lambda: len(cache.entries()) == 1, "the answer is in the shared cache")
        assert not ask(second, "D4")["cached"]


def test_probes_do_not_use_the_shared_cache(
    tmp_path: Path, cache: CacheServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with two(tmp_path, cache.url) as (first, one, second, other):
        ask(first, "D4")
        eventually(lambda: len(cache.entries()) == 1, "the answer is in the shared cache")
        monkeypatch.setenv(PROBE_VARIABLE, "1")
        assert not ask(second, "D4")["cached"]
        assert (shared(other, "hits"), shared(other, "misses")) == (0, 0)
        assert len(second.queries()) == 1
        assert len(cache.entries()) == 1
        assert errors(one) == {}


GARBAGE = {
    "empty": b"",
    "short": b"x",
    "text": b"not an answer of this fleet, but long enough to have a time and a signature" * 3,
    "large": b"\0" * 3_000_000,
}


@pytest.mark.parametrize(
    "kind",
    [
        "text",
        "copied",
        "flipped",
        *(long(kind) for kind in ("empty", "short", "large", "list", "truncated", "extended")),
    ],
)
def test_an_entry_that_is_not_genuine_is_a_miss_and_is_replaced(
    tmp_path: Path, cache: CacheServer, kind: str
) -> None:
    with two(tmp_path, cache.url) as (first, _, second, other):
        ask(first, "D4")
        ask(first, "E5")
        eventually(lambda: len(cache.entries()) == 2, "the answers are in the shared cache")
        client = cache.client()
        genuine = {name: client.get(name) for name in cache.entries()}
        for name, content in genuine.items():
            assert isinstance(content, bytes)
            others = next(entry for each, entry in genuine.items() if each != name)
            client.delete(name)
            if kind == "list":
                client.rpush(name, "x")
                continue
            forged = {
                "copied": others,
                "truncated": content[:-1],
                "flipped": content[:-1] + bytes([content[-1] ^ 1]),
                "extended": content + b" ",
            }
            client.set(name, forged.get(kind) or GARBAGE.get(kind, b""))
        assert not ask(second, "D4")["cached"]
        assert len(second.queries()) == 1
        # An empty value reads like a missing one.
        assert errors(other) == ({} if kind == "empty" else {"entry": 1})
        assert (shared(other, "misses"), state(other)) == (1, "up")
        eventually(lambda: sum(client.type(name) == b"string" for name in genuine) >= 1, "one was replaced")
        assert not ask(second, "E5", "D4")["cached"]


def generation(cache: CacheServer) -> int:
    """The number of the generation in the shared cache, whoever wrote it."""
    (name,) = cache.client().keys("katago-mcp:generation:*")
    content = cache.client().get(name)
    assert isinstance(content, bytes)
    return int.from_bytes(content[:8], "big")


def test_clearing_is_not_undone_by_the_shared_cache(tmp_path: Path, cache: CacheServer) -> None:
    with two(tmp_path, cache.url) as (first, _, second, other):
        ask(first, "D4")
        eventually(lambda: len(cache.entries()) == 1, "the answer is in the shared cache")
        assert other.post("/admin/cache/clear", ADMIN_TOKEN).status_code == 200
        assert not ask(second, "D4")["cached"]
        # The host that was not cleared still has its own. What is analysed from now on is shared again.
        assert ask(first, "D4")["cached"]
        ask(first, "E5")
        eventually(lambda: len(cache.entries()) == 3, "the new answers are in the shared cache")
        assert ask(second, "E5")["cached"]


def test_clearing_one_host_ends_the_shared_answers_of_all(tmp_path: Path, cache: CacheServer) -> None:
    with two(tmp_path, cache.url) as (first, one, second, other):
        ask(first, "D4")
        eventually(lambda: len(cache.entries()) == 1, "the answer is in the shared cache")
        assert one.post("/admin/cache/clear", ADMIN_TOKEN).status_code == 200
        eventually(lambda: generation(cache) == 2, "another generation has started")
        assert not ask(second, "D4")["cached"]
        assert len(events(other, "shared_cache_cleared_elsewhere")) == 1
    # The generation is kept when the shared cache loses it, and when the host restarts.
    cache.client().delete(*cache.client().keys("katago-mcp:generation:*"))
    with up(second) as other:
        assert events(other, "shared_cache_cleared_elsewhere") == []
        assert generation(cache) == 3


@pytest.mark.parametrize("how", ["command", long("restart"), long("down")])
def test_an_entry_from_before_a_clearing_is_never_used(
    tmp_path: Path, cache: CacheServer, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = host(tmp_path / "one", cache.url), host(tmp_path / "two", cache.url)
    with up(first), up(second):
        ask(first, "D4")
        eventually(lambda: len(cache.entries()) == 1, "the answer is in the shared cache")
    client = cache.client()
    copy = {name: client.get(name) for name in client.keys("katago-mcp:*")}
    assert len(copy) == 2
    if how == "down":
        cache.stop()
    with second.serving() as other:
        if how == "command":
            eventually(lambda: state(other) == "up", "the shared cache is used")
            assert cli.main(["cache", "clear", "--config", str(second.path)]) == 0
            assert "deleted 0 answers" in capsys.readouterr().out
            eventually(lambda: generation(cache) == 2, "the server carries it out without a lookup")
            assert not ask(second, "D4")["cached"]
        else:
            assert other.post("/admin/cache/clear", ADMIN_TOKEN).status_code == 200
    if how == "down":
        cache.start()
    # An old copy of the shared cache comes back, with its generation.
    cache.client().flushall()
    for name, content in copy.items():
        cache.client().set(name, content)  # type: ignore[arg-type]
    for path in (second.directory / "cache").glob("answers*"):
        path.unlink()
    with up(second):
        assert not ask(second, "D4")["cached"]


def test_a_forged_generation_is_replaced(tmp_path: Path, cache: CacheServer) -> None:
    with two(tmp_path, cache.url) as (first, one, second, other):
        (name,) = cache.client().keys("katago-mcp:generation:*")
        cache.client().set(name, (2**62).to_bytes(8, "big") + b"x" * 32)
        ask(first, "D4")
        eventually(lambda: generation(cache) == 2, "the first host that reads it replaces it")
        ask(first, "E5")
        # The lookup that learns of another generation is a miss.
        ask(second, "C3")
        eventually(lambda: len(cache.entries()) == 3, "the new answers are in the shared cache")
        assert ask(second, "E5")["cached"]
        assert (errors(one), errors(other)) == ({"entry": 1}, {})


FAST = 0.5


def fell(running: Running) -> bool:
    return shared(running, "opened") == 1 and state(running) == "down"


def calls_until_it_fell(site: Site, running: Running, row: int) -> int:
    """Analyse new positions until the host stops using the shared cache. Returns how many."""
    for number in range(1, 9):
        assert not ask(site, f"{'ABCDEFGHJ'[number]}{row}")["cached"]
        if fell(running):
            return number
    raise AssertionError("the host still uses the shared cache")


def test_a_frozen_cache_is_waited_for_a_few_times_only(tmp_path: Path, cache: CacheServer) -> None:
    site = host(tmp_path / "one", cache.url, timeoutSeconds=FAST)
    with up(site) as running:
        with cache.frozen():
            used = calls_until_it_fell(site, running, 1)
            assert used <= 3
            waited = errors(running)
            for column in "BCDEFGHJ":
                assert not ask(site, f"{column}9")["cached"]
            # Nothing asks it any more, except for the attempts in the background.
            # One answer may have been on its way to it.
            assert errors(running)["timeout"] <= waited["timeout"] + 1
            assert shared(running, "opened") == 1
            assert len(site.queries()) == used + 8
            assert running.answers("/ready") == 200
        eventually(lambda: state(running) == "up", "it is used again")
        moves = (f"{column}{row}" for row in range(2, 9) for column in "ABCDEFGHJ")

        def is_shared() -> bool:
            ask(site, next(moves))
            return len(cache.entries()) >= 1

        # The time limit for one answer is short here.
        eventually(is_shared, "answers are shared again")
    assert len(events(running, "shared_cache_up")) == 2
    assert events(running, "shared_cache_down")


def test_a_cache_that_was_killed_is_used_again_when_it_is_back(tmp_path: Path, cache: CacheServer) -> None:
    with two(tmp_path, cache.url) as (first, one, second, other):
        cache.stop()
        assert calls_until_it_fell(first, one, 1) <= 3
        assert set(errors(one)) == {"unavailable"}
        cache.start()
        for running in (one, other):
            eventually(lambda running=running: state(running) == "up", "it is used again")  # type: ignore[misc]
        ask(first, "A5")
        # The lookup that learns of another generation is a miss: the cache was empty.
        ask(second, "B5")
        eventually(lambda: len(cache.entries()) == 2, "answers are shared again")
        assert ask(second, "A5")["cached"]


def test_a_server_starts_and_answers_without_its_shared_cache(tmp_path: Path, cache: CacheServer) -> None:
    cache.stop()
    site = host(tmp_path / "one", cache.url)
    with site.serving() as running:
        assert (ask(site, "D4")["cached"], ask(site, "D4")["cached"]) == (False, True)
        assert state(running) == "down"
        cache.start()
        eventually(lambda: state(running) == "up", "it is used when it is there")


def test_a_wrong_password_is_reported_without_it_and_can_be_corrected(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("the-wrong-password")
    with shared_server.running(tmp_path / "shared", "--requirepass", PASSWORD) as server:
        site = host(tmp_path / "one", server.url, passwordFile=str(password))
        with site.serving() as running:
            eventually(lambda: events(running, "shared_cache_down") != [], "it is reported")
            assert not ask(site, "D4")["cached"]
            assert "password" in events(running, "shared_cache_down")[0]["reason"]
            assert "the-wrong-password" not in running.log.read_text()
            password.write_text(PASSWORD)
            eventually(lambda: state(running) == "up", "the new password is used")


def test_a_full_cache_can_still_be_read(tmp_path: Path, cache: CacheServer) -> None:
    with two(tmp_path, cache.url) as (first, one, second, other):
        ask(first, "D4")
        eventually(lambda: len(cache.entries()) == 1, "the answer is in the shared cache")
        cache.client().config_set("maxmemory", "1")
        for column in "BCDEF":
            ask(first, f"{column}1")
        eventually(lambda: errors(one) == {"unavailable": 5}, "the writes fail")
        assert ask(second, "D4")["cached"]
        assert (state(one), state(other)) == ("up", "up")


ANSWERS = [
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    b"*abc\r\n",
    b"$-7\r\n",
    b"$99999999999\r\nx",
    b"*2\r\n" * 5000,
    b"\xff\xfe\0garbage\n" * 100,
    b":1\r\n" * 50,
    b"",
]


@pytest.mark.parametrize("text", ANSWERS)
def test_a_program_that_is_no_cache_does_no_harm(tmp_path: Path, text: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection = listening.accept()[0]
                    with connection, contextlib.suppress(OSError):
                        connection.recv(4096)
                        connection.sendall(text)

        threading.Thread(target=answer, daemon=True).start()
        url = f"redis://127.0.0.1:{listening.getsockname()[1]}"
        site = host(tmp_path / "one", url, timeoutSeconds=FAST)
        with site.serving() as running:
            for move in ("D4", "E5", "C3", "G7"):
                assert not ask(site, move)["cached"]
            assert ask(site, "D4")["cached"]
            assert running.answers("/ready") == 200
            listening.shutdown(socket.SHUT_RDWR)
    assert not [event for event in running.events() if event["level"] == "error"], running.log.read_text()


class Relay:
    """A port that passes requests on to another one, each of them `seconds` late, as over a slow network."""

    def __init__(self, listening: socket.socket, target: int) -> None:
        self.seconds = 0.0
        self.port: int = listening.getsockname()[1]
        self._listening = listening
        self._target = target
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._listening.accept()[0]
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with (
            client,
            socket.create_connection(("127.0.0.1", self._target)) as server,
            contextlib.suppress(OSError),
        ):
            while request := client.recv(65_536):
                time.sleep(self.seconds)
                server.sendall(request)
                client.sendall(server.recv(65_536))


def test_slow_answers_are_not_waited_for(tmp_path: Path, cache: CacheServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        relay = Relay(listening, cache.port)
        site = host(tmp_path / "one", f"redis://127.0.0.1:{relay.port}", timeoutSeconds=FAST)
        with up(site) as running:
            relay.seconds = 3 * FAST
            assert calls_until_it_fell(site, running, 1) <= 3
            before = shared(running, "misses")
            for column in "BCDEFGHJ":
                assert not ask(site, f"{column}9")["cached"]
            # It answers, but too slowly to be used.
            assert (shared(running, "opened"), shared(running, "misses")) == (1, before)
            relay.seconds = 0
            eventually(lambda: state(running) == "up", "it is used again")
        listening.shutdown(socket.SHUT_RDWR)


def test_the_cache_holds_no_secret_and_no_position(tmp_path: Path, cache: CacheServer) -> None:
    site = host(tmp_path / "one", cache.url)
    with up(site):
        ask(site, "D4")
        eventually(lambda: len(cache.entries()) == 1, "the answer is in the shared cache")
    names = [name.encode() if isinstance(name, str) else name for name in cache.client().keys("*")]
    values = [cache.client().get(name) for name in names]
    content = b"".join(part for part in [*names, *values] if isinstance(part, bytes))
    digest = hashlib.sha256(ANALYZE_TOKEN.encode()).hexdigest()
    for secret in (ANALYZE_TOKEN, KEY, digest, "reader", "D4"):
        assert secret.encode() not in content


@pytest.mark.parametrize(
    ("shared", "other", "problem"),
    [
        (
            {"url": "redis://:secret@127.0.0.1"},
            {},
            "sharedCache.url: it contains a password: move",
        ),
        ({"url": "http://127.0.0.1"}, {}, "sharedCache.url: its scheme is not one of redis"),
        ({"url": "redis://"}, {}, "sharedCache.url: it has no host"),
        ({"url": "redis://127.0.0.1:99999"}, {}, "sharedCache.url: its host or port is not valid"),
        ({"url": "redis://127.0.0.1/answers"}, {}, "sharedCache.url: its database is not a number"),
        ({"url": "redis://127.0.0.1?ssl_cert_reqs=none"}, {}, "sharedCache.url: it has options"),
        ({"url": "unix://run/redis.sock"}, {}, "sharedCache.url: a socket is written as unix:///"),
        ({"url": "redis://127.0.0.1", "caFile": "ca.pem"}, {}, "sharedCache.caFile: the address has no TLS"),
        (
            {"url": "redis://127.0.0.1"},
            {"cache": {"enabled": False}},
            "sharedCache.url: the cache is disabled",
        ),
        (
            {"url": "redis://127.0.0.1"},
            {"auth": {"sessionKeyFile": None}},
            "sharedCache.url: there is no key to verify its entries with: set auth.sessionKeyFile",
        ),
    ],
)
def test_a_wrong_configuration_is_explained(
    tmp_path: Path, shared: dict[str, object], other: dict[str, dict[str, object]], problem: str
) -> None:
    site = host(tmp_path / "one", "redis://127.0.0.1")
    site.write(sharedCache=shared, **other)
    with pytest.raises(ConfigError) as raised:
        load(site.path, {})
    assert [line for line in raised.value.problems if line.startswith(problem)]
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"session.key": None}, "auth.sessionKeyFile: {}/session.key does not exist, so there is no key"),
        ({"password": None}, "sharedCache.passwordFile: {}/password cannot be read (No such file"),
        ({"password": b"\n"}, "sharedCache.passwordFile: {}/password is empty"),
        ({"password": b"\xff\xfe"}, "sharedCache.passwordFile: {}/password is not UTF-8"),
        ({"ca.pem": b"nothing"}, "sharedCache.caFile: {}/ca.pem: has no certificate in PEM"),
        ({"ca.pem": None}, "sharedCache.caFile: {}/ca.pem: No such file"),
    ],
)
def test_a_wrong_file_is_explained_and_does_not_stop_the_server(
    tmp_path: Path, files: dict[str, bytes | None], problem: str
) -> None:
    site = host(tmp_path / "one", "rediss://127.0.0.1", passwordFile="password", caFile="ca.pem")
    pair = certificates.files(site.directory, "ca")
    certificates.write(pair)
    pair.certificate.rename(site.directory / "ca.pem")
    (site.directory / "password").write_text(PASSWORD)
    for name, content in files.items():
        if content is None:
            (site.directory / name).unlink()
        else:
            (site.directory / name).write_bytes(content)
    with site.serving() as running:
        assert not ask(site, "D4")["cached"]
        assert state(running) == "down"
        problems = [
            line
            for event in running.events()
            if event["event"] in ("shared_cache_misconfigured", "shared_cache_refused")
            for line in event["problems"]
        ]
    assert len(problems) == 1
    assert problems[0].startswith(problem.format(site.directory))


def test_the_check_of_the_configuration_reads_the_files_that_exist(tmp_path: Path) -> None:
    site = host(tmp_path / "one", "redis://127.0.0.1", passwordFile="password")
    # The pre-flight validation of a release may run before the password is installed.
    assert site.run("validate", "--no-engine", "--config", str(site.path)).returncode == 0
    (site.directory / "password").write_text("")
    done = site.run("validate", "--no-engine", "--config", str(site.path))
    assert done.returncode == 1
    assert "password is empty: write the password into it" in done.stdout
