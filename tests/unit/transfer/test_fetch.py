"""A host accepts a fetched file only if it is whole and has the right sha256."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.common import digest
from ansible_collections.katago.fleet.plugins.module_utils.transfer import fetch

CONTENT = b"a network" * 1000
SHA256 = digest.of_bytes(CONTENT)


@dataclass
class Mirror:
    """A mirror that behaves as a test wants. `seen`: path and credentials of each request."""

    address: str = ""
    content: bytes = CONTENT
    length: int | str = len(CONTENT)
    status: int = 200
    location: str = ""
    seen: list[tuple[str, str | None]] = field(default_factory=list)


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    made = Mirror()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.seen.append((self.path, self.headers.get("Authorization")))
            moved = made.location if self.path != "/elsewhere" else ""
            self.send_response(302 if moved else made.status)
            self.send_header("Location", moved)
            self.send_header("Content-Length", "0" if moved else str(made.length))
            self.end_headers()
            if not moved:
                self.wfile.write(made.content)

        def log_message(self, *_: object) -> None:
            """Write nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.address = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


def get(address: str, target: Path) -> None:
    fetch.fetch(address, SHA256, len(CONTENT), target, direct=True, seconds=10)


def test_right_file_is_accepted(mirror: Mirror, tmp_path: Path) -> None:
    get(f"http://{mirror.address}/x", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_wrong_file_is_deleted_and_both_digests_are_named(mirror: Mirror, tmp_path: Path) -> None:
    mirror.content = b"X" + CONTENT[1:]
    with pytest.raises(fetch.FetchError) as error:
        get(f"http://{mirror.address}/x", tmp_path / "file")
    assert str(error.value) == f"the sha256 of its file is {digest.of_bytes(mirror.content)}, not {SHA256}"
    assert not (tmp_path / "file").exists()


def test_truncated_file_is_deleted(mirror: Mirror, tmp_path: Path) -> None:
    mirror.content = CONTENT[:100]
    with pytest.raises(fetch.FetchError, match=f"it sent only 100 of {len(CONTENT)} bytes"):
        get(f"http://{mirror.address}/x", tmp_path / "file")
    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize("length", [len(CONTENT) + 9, "unknown"])
def test_no_more_than_the_file_is_written(mirror: Mirror, tmp_path: Path, length: int | str) -> None:
    mirror.content, mirror.length = CONTENT + b"surpluses", length
    with pytest.raises(fetch.FetchError, match=f"its file has more than {len(CONTENT)} bytes"):
        get(f"http://{mirror.address}/x", tmp_path / "file")
    assert not (tmp_path / "file").exists()


def test_error_has_the_status_and_no_credentials(mirror: Mirror, tmp_path: Path) -> None:
    mirror.status = 404
    with pytest.raises(fetch.FetchError) as error:
        get(f"http://bob:hunter22@{mirror.address}/x", tmp_path / "file")
    assert str(error.value) == "it answered 404 Not Found"


def test_mirror_that_does_not_listen_is_named_by_its_error(mirror: Mirror, tmp_path: Path) -> None:
    with pytest.raises(fetch.FetchError, match="Connection refused"):
        get("http://127.0.0.1:1/x", tmp_path / "file")


@pytest.mark.parametrize("address", ["http://a..example.org/net", "http://mirror:many/net"])
def test_address_of_no_host_is_an_error_and_no_crash(address: str, tmp_path: Path) -> None:
    with pytest.raises(fetch.FetchError):
        get(address, tmp_path / "net")


def test_credentials_are_sent_as_a_header_and_not_to_where_the_mirror_redirects(
    mirror: Mirror, tmp_path: Path
) -> None:
    mirror.location = f"http://{mirror.address}/elsewhere"
    get(f"http://bob:p%40ss@{mirror.address}/x", tmp_path / "file")
    assert mirror.seen == [("/x", "Basic Ym9iOnBAc3M="), ("/elsewhere", None)]


@pytest.mark.parametrize("address", ["ftp://mirror/x", "file:///etc/passwd", "mirror/x", "http://"])
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(fetch.FetchError, match="http"):
        fetch.request_of(address)
