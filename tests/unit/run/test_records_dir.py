"""Where records are kept: beside the inventory, never by chance, never where they would be lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader

from ansible_collections.katago.fleet.plugins.plugin_utils.run import records_dir
from ansible_collections.katago.fleet.plugins.plugin_utils.run.records_dir import PlaceError

VARIABLE = records_dir.VARIABLE


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Two inventories, and a checkout in which nothing was recorded."""
    for name in ("production", "staging"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "hosts.yml").write_text("katago: {hosts: {katago-1: }}")
    (tmp_path / "checkout/roles/katago_mcp").mkdir(parents=True)
    return tmp_path


def decide(site: Path, *sources: Path | str, **variables: str) -> Path:
    return records_dir.decide(variables, [str(source) for source in sources], root=site / "checkout")


def record(directory: Path) -> Path:
    """Records as a procedure without an incident leaves them."""
    (directory / "incidents/no-incident").mkdir(parents=True)
    return directory


def test_file_and_directory_of_an_inventory_have_the_same_records(site: Path) -> None:
    place = site / "production" / ".katago-records"
    assert decide(site, site / "production") == place
    assert decide(site, site / "production/hosts.yml") == place
    assert decide(site, site / "production", site / "production/hosts.yml") == place


def test_current_directory_decides_nothing(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = decide(site, site / "production")
    monkeypatch.chdir(site / "staging")
    assert decide(site, site / "production") == before
    assert decide(site, "../production/hosts.yml") == before


def test_ansible_reads_no_record_as_inventory(site: Path) -> None:
    place = decide(site, site / "production")
    (place / "evidence").mkdir(parents=True)
    (place / "evidence/hosts.yml").write_text("katago: {hosts: {injected: }}")
    inventory = InventoryManager(DataLoader(), [str(site / "production")])
    assert [host.name for host in inventory.get_hosts()] == ["katago-1"]


def test_list_of_hosts_beside_a_directory_changes_nothing(site: Path) -> None:
    assert decide(site, "katago-9,", site / "production") == site / "production" / ".katago-records"


@pytest.mark.parametrize("source", ["katago-1,", "/dev/stdin", "/nonexistent/hosts.yml"])
def test_inventory_without_a_directory_is_refused_unless_one_is_given(site: Path, source: str) -> None:
    with pytest.raises(PlaceError, match=f"-e {VARIABLE}=DIRECTORY"):
        decide(site, source)
    assert decide(site, source, **{VARIABLE: str(site / "kept")}) == site / "kept"


def test_several_directories_are_refused_while_it_is_open_which_has_the_records(site: Path) -> None:
    both = (site / "production", site / "staging")
    with pytest.raises(PlaceError, match="lie in several directories"):
        decide(site, *both)
    used = record(site / "staging" / ".katago-records")
    assert decide(site, *both) == decide(site, *reversed(both)) == used
    record(site / "production" / ".katago-records")
    with pytest.raises(PlaceError, match="lie in several directories"):
        decide(site, *both)


def test_variable_names_the_directory(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(site))
    assert decide(site, site / "production", **{VARIABLE: "~/kept/../records"}) == site / "records"


def test_relative_path_is_refused(site: Path) -> None:
    with pytest.raises(PlaceError, match="'records', and which directory that is would depend on where"):
        decide(site, site / "production", **{VARIABLE: "records"})


def test_directory_that_ansible_would_read_as_inventory_is_refused(site: Path) -> None:
    with pytest.raises(PlaceError, match="Ansible would read the records as inventory"):
        decide(site, site / "production", **{VARIABLE: str(site / "production/records")})
    hidden = site / "production" / ".records" / "fleet"
    assert decide(site, site / "production", **{VARIABLE: str(hidden)}) == hidden


def test_installed_collection_keeps_no_records(site: Path) -> None:
    collection = site / "ansible_collections/katago/fleet"
    inventory = collection / "inventories/production"
    inventory.mkdir(parents=True)
    (collection / "MANIFEST.json").write_text("{}")
    for variables in ({}, {VARIABLE: str(collection / "records")}):
        with pytest.raises(PlaceError, match=r"lost when the collection in .*katago/fleet is installed"):
            decide(site, inventory, **variables)
    link = site / "link"
    link.symlink_to(collection)
    with pytest.raises(PlaceError, match="would be lost"):
        decide(site, site / "production", **{VARIABLE: str(link / "records")})


@pytest.mark.parametrize("name", records_dir.RETIRED)
def test_variable_of_the_version_before_is_refused_with_the_new_one(site: Path, name: str) -> None:
    with pytest.raises(PlaceError, match=f"{name} is no longer read.* set {VARIABLE} to /srv/kept"):
        decide(site, site / "production", **{name: "/srv/kept"})


def test_records_of_the_version_before_are_found_until_they_are_moved(site: Path) -> None:
    old = record(site / "checkout/records")
    new = site / "production" / ".katago-records"
    with pytest.raises(PlaceError, match=f"`mv -T {old} {new}`"):
        decide(site, site / "production")
    old.rename(new)
    assert decide(site, site / "production") == new


def test_records_of_a_checkout_are_found_by_an_inventory_in_it(site: Path) -> None:
    record(site / "checkout/records")
    inventory = site / "checkout/inventories/production"
    inventory.mkdir(parents=True)
    with pytest.raises(PlaceError, match=r"The records of version 0\.1\.0 are in"):
        records_dir.decide({}, [str(inventory)], root=site / "elsewhere")


def test_records_that_are_not_of_a_checkout_are_left_alone(site: Path) -> None:
    record(site / "records")
    assert decide(site, site / "production") == site / "production" / ".katago-records"


def test_chosen_directory_without_records_is_told_of_those_of_the_version_before(site: Path) -> None:
    old, new = record(site / "checkout/records"), site / "kept"
    variables, sources, root = {VARIABLE: str(new)}, [str(site / "production")], site / "checkout"
    assert records_dir.decide(variables, sources, root=root) == new
    assert f"`mv -T {old} {new}`" in records_dir.notice(variables, sources, new, root=root)
    assert records_dir.notice({VARIABLE: str(old)}, sources, old, root=root) == ""
    record(new)
    assert records_dir.notice(variables, sources, new, root=root) == ""
