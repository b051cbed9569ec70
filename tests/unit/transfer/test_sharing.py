"""Which files are shared, from which host, and where a host fetches a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible import constants

from ansible_collections.katago.fleet.plugins.lookup.asset_host import LookupModule
from ansible_collections.katago.fleet.plugins.plugin_utils.transfer import sharing

ENGINE, NETWORK = "e" * 64, "f" * 64
SHARE = sharing.Share("a", "katago-assets-1.service", "http://10.0.0.1:8000/token", (NETWORK,))


def facts(*lacks: str, engine: str = ENGINE) -> dict[str, Any]:
    """What the preflight found on a host."""
    return {
        "engine": {"path": "/cache/katago", "sha256": engine},
        "network": {"path": "/cache/net.bin.gz", "sha256": NETWORK, "name": "net.bin.gz"},
        "human_network": None,
        "host": {"lacks": list(lacks)},
    }


def test_files_are_counted_by_the_hosts_that_lack_them() -> None:
    files = sharing.lacking(
        {"a": facts("engine", "network"), "b": facts("network"), "c": facts("engine", engine="0" * 64)}
    )
    assert {(file.name, file.sha256[0], file.hosts) for file in files} == {
        ("katago", "e", ("a",)),
        ("net.bin.gz", "f", ("a", "b")),
        ("katago", "0", ("c",)),
    }


def test_network_is_read_where_it_is_installed_and_an_engine_is_not() -> None:
    engine, network = sharing.lacking({"a": facts("engine", "network")})
    assert (engine.installed, network.installed) == ("", f"/opt/katago/networks/{NETWORK}/net.bin.gz")


def test_fleet_that_lacks_nothing_shares_nothing() -> None:
    assert sharing.lacking({"a": facts(), "b": facts()}) == []


@pytest.mark.parametrize(
    ("hosts", "named", "shared"),
    [
        (("a", "b", "c"), False, True),
        (("a", "b"), False, False),
        (("b",), True, True),
        (("a",), True, False),
        ((), True, False),
    ],
)
def test_file_is_shared_if_enough_other_hosts_lack_it(
    hosts: tuple[str, ...], named: bool, shared: bool
) -> None:
    file = sharing.File(NETWORK, "/cache/net.bin.gz", "net.bin.gz", hosts=hosts)
    assert bool(sharing.worth_sharing([file], "a", named=named, direct_hosts=2)) is shared


def test_asset_host_is_the_named_one_or_the_first_that_the_run_reaches() -> None:
    group = ["a", "b", "c"]
    assert sharing.asset_host("", group, ["c", "b"]) == "b"
    assert sharing.asset_host("a", group, ["c", "b"]) == "a"
    assert sharing.asset_host("", group, []) is None
    assert sharing.asset_host("elsewhere", group, group) is None


@pytest.fixture
def run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a run."""
    monkeypatch.setattr(constants, "DEFAULT_LOCAL_TMP", str(tmp_path), raising=False)
    return tmp_path


def test_share_is_stopped_where_it_was_started(run_directory: Path) -> None:
    variables = {"groups": {"katago": ["a", "b"]}, "ansible_play_hosts": ["b"], "inventory_hostname": "b"}
    sharing.write(SHARE, run_directory)
    assert LookupModule().run([""], variables) == ["a"]


@pytest.mark.usefixtures("run_directory")
def test_lookup_gives_the_task_its_own_host_if_there_is_no_other() -> None:
    lookup = LookupModule()
    variables = {"groups": {"katago": ["a", "b"]}, "ansible_play_hosts": ["b"], "inventory_hostname": "x"}
    assert lookup.run([""], variables) == ["b"]
    assert lookup.run(["a"], variables) == ["a"]
    assert lookup.run(["nowhere"], variables) == ["x"]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "localhost"])
def test_address_of_the_host_itself_is_named_with_the_remedy(address: str) -> None:
    assert "Set fleet_address of katago-1" in sharing.unreachable("katago-1", address)
    assert sharing.unreachable("katago-1", "10.0.0.1") == sharing.unreachable("katago-1", "host") == ""


def test_ipv6_address_has_brackets() -> None:
    assert sharing.base_url("fd00::1", 80, "t") == "http://[fd00::1]:80/t"


def test_host_asks_its_mirror_before_the_asset_host() -> None:
    mirror = "https://bob:hunter22@mirror.example.org/katago/"
    (source,) = sharing.sources(NETWORK, mirror=mirror, share=SHARE)
    assert source.address == f"https://bob:hunter22@mirror.example.org/katago/{NETWORK}"
    assert source.shown == "the mirror https://mirror.example.org/katago/"
    assert not source.direct


def test_host_asks_the_asset_host_only_for_what_it_shares() -> None:
    (source,) = sharing.sources(NETWORK, mirror="", share=SHARE)
    assert source == sharing.Source(f"{SHARE.address}/{NETWORK}", "the asset host a", direct=True)
    assert sharing.sources(ENGINE, mirror="", share=SHARE) == []
    assert sharing.sources(NETWORK, mirror="", share=None) == []


@pytest.mark.parametrize(
    "mirror", ["ftp://m/x", "mirror.example.org", "https://", "https://m/x?key=hunter22"]
)
def test_bad_mirror_is_named_without_its_secrets(mirror: str) -> None:
    problem = sharing.mirror_problem(mirror)
    assert "katago_asset_mirror is" in problem
    assert "hunter22" not in problem
    assert sharing.mirror_problem("https://bob:hunter22@mirror.example.org/katago") == ""


def test_record_is_private_and_ends_with_the_share(tmp_path: Path) -> None:
    assert sharing.read(tmp_path) is None
    sharing.write(SHARE, tmp_path)
    assert sharing.read(tmp_path) == SHARE
    assert [path.stat().st_mode & 0o777 for path in tmp_path.iterdir()] == [0o600]
    sharing.forget(tmp_path)
    assert sharing.read(tmp_path) is None
