"""A key and its public part are created together, whatever a killed run has left."""

from __future__ import annotations

import os
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.common import commands, key_pair
from ansible_collections.katago.fleet.plugins.modules import key_pair as module
from tests.stubs import module_result

KINDS: tuple[key_pair.Kind, ...] = ("certificate", "ssh")
of_each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(autouse=True)
def programs() -> None:
    """Skip the test where a program is not installed."""
    for program in ("openssl", "ssh-keygen"):
        if commands.ask([program, "-?"], 20)[0] == 127:
            pytest.skip(f"{program} is not installed")


def pair(kind: key_pair.Kind, directory: Path) -> key_pair.Pair:
    directory.mkdir(exist_ok=True)
    return key_pair.Pair(kind, directory / "key", directory / "public", "katago-exporters")


def created(kind: key_pair.Kind, directory: Path) -> key_pair.Pair:
    made = pair(kind, directory)
    assert key_pair.ensure(made)
    return made


def content(directory: Path) -> dict[str, tuple[str, int]]:
    return {each.name: (each.read_text(), each.stat().st_mode & 0o777) for each in directory.iterdir()}


@of_each_kind
def test_pair_is_complete_and_only_its_owner_reads_the_key(kind: key_pair.Kind, tmp_path: Path) -> None:
    made = created(kind, tmp_path)
    assert made.is_complete()
    assert {name: mode for name, (_, mode) in content(tmp_path).items()} == {"key": 0o600, "public": 0o644}


@of_each_kind
def test_complete_pair_is_kept(kind: key_pair.Kind, tmp_path: Path) -> None:
    made = created(kind, tmp_path)
    before = content(tmp_path)
    assert not key_pair.ensure(made)
    assert content(tmp_path) == before


@of_each_kind
def test_modes_are_corrected_without_a_new_key(kind: key_pair.Kind, tmp_path: Path) -> None:
    made = created(kind, tmp_path)
    before = content(tmp_path)
    made.key.chmod(0o644)
    made.public.chmod(0o600)
    assert key_pair.ensure(made)
    assert content(tmp_path) == before


def _without_key(made: key_pair.Pair) -> None:
    made.key.unlink()


def _without_public(made: key_pair.Pair) -> None:
    made.public.unlink()


def _empty_public(made: key_pair.Pair) -> None:
    made.public.write_text("")


def _half_public(made: key_pair.Pair) -> None:
    text = made.public.read_text()
    made.public.write_text(text[: len(text) // 2])


def _half_key(made: key_pair.Pair) -> None:
    text = made.key.read_text()
    made.key.write_text(text[: len(text) // 2])


def _binary_public(made: key_pair.Pair) -> None:
    made.public.write_bytes(b"\0\xff" * 100)


def _of_another(made: key_pair.Pair) -> None:
    other = created(made.kind, made.key.parent.with_name("other"))
    made.public.write_text(other.public.read_text())


DAMAGES = (
    *(_without_key, _without_public, _empty_public, _half_public, _half_key, _binary_public),
    _of_another,
)


@of_each_kind
@pytest.mark.parametrize("damage", DAMAGES)
def test_pair_that_is_not_complete_is_created_again(
    kind: key_pair.Kind, damage: Callable[[key_pair.Pair], None], tmp_path: Path
) -> None:
    made = created(kind, tmp_path / "own")
    damage(made)
    before = content(made.key.parent) if damage is not _binary_public else {}
    assert key_pair.ensure(made, check=True)
    if before:
        assert content(made.key.parent) == before
    assert key_pair.ensure(made)
    assert made.is_complete()
    assert not key_pair.ensure(made)


@of_each_kind
def test_key_with_a_password_is_replaced_without_asking_for_it(kind: key_pair.Kind, tmp_path: Path) -> None:
    made = created(kind, tmp_path)
    locked = tmp_path / "locked"
    locked.write_text(made.key.read_text())
    locked.chmod(0o600)
    command: list[str | Path] = (
        ["openssl", "pkey", "-in", made.key, "-aes256", "-passout", "pass:secret", "-out", locked]
        if kind == "certificate"
        else ["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", locked]
    )
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    locked.rename(made.key)
    assert not made.is_complete()
    assert key_pair.ensure(made)
    assert made.is_complete()


@of_each_kind
@pytest.mark.parametrize("number", [1, 2])
def test_run_that_is_killed_between_the_files_is_completed_by_the_next(
    kind: key_pair.Kind, number: int, tmp_path: Path
) -> None:
    made = created(kind, tmp_path)
    made.public.unlink()
    child = os.fork()
    if child == 0:
        _kill_at_rename(number)
        key_pair.ensure(made)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert not made.is_complete()
    assert key_pair.ensure(made)
    assert made.is_complete()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["key", "public"]


def _kill_at_rename(number: int) -> None:
    rename, calls = Path.rename, []

    def killed(self: Path, target: Path) -> Path:
        calls.append(self)
        if len(calls) == number:
            os._exit(9)
        return rename(self, target)

    Path.rename = killed  # type: ignore[method-assign, assignment]


@of_each_kind
def test_keys_that_a_killed_run_has_left_are_removed(kind: key_pair.Kind, tmp_path: Path) -> None:
    made = created(kind, tmp_path)
    (tmp_path / ".key-pair-x").mkdir()
    (tmp_path / ".key-pair-x" / "key").write_text("secret")
    (tmp_path / ".key.abcd_123").write_text("secret")
    before = made.key.read_text()
    assert key_pair.ensure(made)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["key", "public"]
    assert made.key.read_text() == before


def test_certificate_has_the_name_and_is_valid_for_ten_years(tmp_path: Path) -> None:
    made = created("certificate", tmp_path)
    decode = cast("Any", ssl)._ssl._test_decode_cert
    certificate = decode(str(made.public))
    assert certificate["subjectAltName"] == (("DNS", "katago-exporters"),)
    valid = ssl.cert_time_to_seconds(certificate["notAfter"]) - ssl.cert_time_to_seconds(
        certificate["notBefore"]
    )
    assert valid == 3650 * 86400


@of_each_kind
def test_module_reports_the_public_part(
    kind: key_pair.Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = pair(kind, tmp_path)
    request: dict[str, Any] = {
        "kind": kind,
        "key": str(made.key),
        "public": str(made.public),
        "name": "katago-exporters",
    }
    predicted = module_result(monkeypatch, module, check=True, **request)
    assert (predicted["changed"], predicted["content"], list(tmp_path.iterdir())) == (True, "", [])
    result = module_result(monkeypatch, module, **request)
    assert (result["changed"], result["content"]) == (True, made.public.read_text())
    assert not module_result(monkeypatch, module, **request)["changed"]


@of_each_kind
def test_failure_names_the_files_and_the_program(
    kind: key_pair.Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "ask", lambda *_: (1, "no entropy\n"))
    made = pair(kind, tmp_path)
    with pytest.raises(key_pair.KeyPairError, match=r"made no key pair: no entropy"):
        key_pair.ensure(made)
    assert list(tmp_path.iterdir()) == []
