"""Signed session ids."""

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

from katago_mcp.config import ConfigError
from katago_mcp.session_ids import SessionIds, SessionKeys, configured_keys

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
VERSION = "2025-11-25"


def ids(*keys: bytes, lifetime: float = 3600) -> SessionIds:
    return SessionIds(lambda: keys or (KEY,), lambda: lifetime)


@given(owner=st.text(), version=st.sampled_from(HANDSHAKE_PROTOCOL_VERSIONS))
def test_a_host_with_the_same_key_verifies_an_id(owner: str, version: str) -> None:
    session_id = ids().issue(owner, version)
    assert ids().verify(session_id, owner) == version
    assert len(session_id) == 63
    assert all(0x21 <= ord(character) <= 0x7E for character in session_id)


def test_ids_are_different() -> None:
    issued = {ids().issue("reader", VERSION) for _ in range(1000)}
    assert len(issued) == 1000


@given(owner=st.text(), other=st.text())
def test_an_id_belongs_to_its_owner(owner: str, other: str) -> None:
    session_id = ids().issue(owner, VERSION)
    assert (ids().verify(session_id, other) is None) == (owner != other)


@given(st.data())
def test_a_changed_id_is_not_valid(data: st.DataObject) -> None:
    session_id = ids().issue("reader", VERSION)
    place = data.draw(st.integers(0, len(session_id) - 1))
    character = data.draw(st.characters(min_codepoint=0x21, max_codepoint=0x17F))
    changed = session_id[:place] + character + session_id[place + 1 :]
    assert (ids().verify(changed, "reader") is None) == (changed != session_id)


@given(st.text() | st.from_regex(r"[A-Za-z0-9_-]{0,50}\.[A-Za-z0-9_-]{0,30}", fullmatch=True))
def test_an_arbitrary_text_is_not_valid(text: str) -> None:
    assert ids().verify(text, "reader") is None


@pytest.mark.parametrize("suffix", [".", "=", ".AAAA", " ", "\n"])
def test_an_id_with_a_suffix_is_not_valid(suffix: str) -> None:
    assert ids().verify(ids().issue("reader", VERSION) + suffix, "reader") is None


def test_an_id_of_another_key_is_not_valid() -> None:
    assert ids(OTHER_KEY).verify(ids(KEY).issue("reader", VERSION), "reader") is None


def test_a_key_can_be_replaced_host_by_host() -> None:
    old, both, new = ids(KEY), ids(OTHER_KEY, KEY), ids(OTHER_KEY)
    assert both.verify(old.issue("reader", VERSION), "reader") == VERSION
    assert new.verify(both.issue("reader", VERSION), "reader") == VERSION
    assert old.verify(both.issue("reader", VERSION), "reader") is None


@pytest.mark.parametrize(
    ("seconds", "valid"), [(-10, True), (0, True), (3599, True), (3602, False), (-1000, False)]
)
def test_an_id_is_valid_for_its_lifetime(
    monkeypatch: pytest.MonkeyPatch, seconds: float, valid: bool
) -> None:
    now = time.time()
    session_id = ids().issue("reader", VERSION)
    monkeypatch.setattr("katago_mcp.session_ids.time", SimpleNamespace(time=lambda: now + seconds))
    assert (ids().verify(session_id, "reader") is not None) == valid


def test_a_version_that_is_no_longer_served_is_not_valid() -> None:
    assert ids().verify(ids().issue("reader", "2020-01-01"), "reader") is None


def test_keys_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "session.key"
    assert configured_keys(None) == []
    assert configured_keys(path) == []
    path.write_bytes(KEY + b"\n\n" + OTHER_KEY)
    assert configured_keys(path) == [KEY, OTHER_KEY]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "has no key: write one of at least 32 characters"),
        (b"\n \n", "has no key"),
        (b"short", "the key in line 1 has 5 characters: use at least 32"),
        (KEY + b"\nshort\n", "the key in line 2 has 5 characters"),
    ],
)
def test_a_file_without_a_usable_key_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "session.key"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        configured_keys(path)
    (text,) = caught.value.problems
    assert text.startswith(f"auth.sessionKeyFile: {path}")
    assert problem in text
    assert b"short" not in text.encode()


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "session.key"
    path.mkdir()
    with pytest.raises(ConfigError, match=r"session\.key cannot be read \(Is a directory\)"):
        configured_keys(path)


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "session.key"
    keys = SessionKeys(path)
    (random_key,) = keys()
    assert len(random_key) == 32
    assert SessionKeys(path)() != (random_key,)
    path.write_bytes(KEY)
    assert keys() == (KEY,)
    path.write_bytes(OTHER_KEY + b"\n" + KEY)
    assert keys() == (OTHER_KEY, KEY)
    path.write_bytes(b"short")
    assert keys() == (OTHER_KEY, KEY)
    path.unlink()
    assert keys() == (OTHER_KEY, KEY)


def test_a_file_that_is_not_valid_at_the_start_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "session.key"
    path.write_bytes(b"short")
    with pytest.raises(ConfigError, match="has 5 characters"):
        SessionKeys(path)
