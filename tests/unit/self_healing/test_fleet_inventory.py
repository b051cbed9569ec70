"""The monitoring host gets only what the allowed procedures need, and the collection of the control node."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.katago.fleet.plugins.filter import fleet as filters
from ansible_collections.katago.fleet.plugins.plugin_utils.run import fleet_hosts
from ansible_collections.katago.fleet.plugins.plugin_utils.self_healing import allowed, bundle, inventory

GROUPS = {"katago": ["katago-1"], "load_balancer": ["lb-1"], "monitoring": ["mon-1"], "other": ["x"]}
HOSTS: dict[str, dict[str, Any]] = {
    "katago-1": {
        "fleet_address": "10.0.0.1",
        "fleet_min_available": "50%",
        "ansible_password": "secret-login",
        "katago_mcp_tokens": [{"token": "secret-token"}],
        "katago_mcp_tls_key": "secret-key",
        "monitoring_token": "secret-metrics",
        "backup_repository": "/backups",
        "backup_password": "secret-backup",
        "incident_roster": {"contacts": {"senior": {"name": "Anna"}}},
        "evidence_key": "/home/anna/evidence.pem",
    },
    "lb-1": {"ansible_host": "10.0.0.2", "monitoring_ssh_port": 2222},
    "mon-1": {"fleet_address": "10.0.0.3"},
}
ALL: list[str] = list(allowed.ACTIONS)


def rendered(actions: list[str] = ALL) -> str:
    return filters.healing_inventory(GROUPS, HOSTS, actions, "/var/lib/katago-healing/records")


def test_hosts_are_reached_with_the_key_of_the_account_alone() -> None:
    content = json.loads(rendered())["all"]
    assert content["hosts"].keys() == {"katago-1", "lb-1", "mon-1"}
    assert content["children"]["katago"]["hosts"] == {"katago-1": {}}
    assert content["hosts"]["lb-1"]["ansible_host"] == "10.0.0.2"
    assert content["hosts"]["lb-1"]["ansible_port"] == 2222
    assert content["vars"]["ansible_user"] == "katago-healing"
    assert "StrictHostKeyChecking=yes" in content["vars"]["ansible_ssh_common_args"]
    assert content["vars"]["katago_records_dir"] == "/var/lib/katago-healing/records"


def test_secrets_of_the_service_and_of_logins_stay_on_the_control_node() -> None:
    text = rendered()
    for secret in ("secret-login", "secret-token", "secret-key", "secret-metrics", "evidence.pem"):
        assert secret not in text
    assert "Anna" in text
    assert json.loads(text)["all"]["hosts"]["katago-1"]["fleet_min_available"] == "50%"


def test_secrets_of_backups_are_passed_only_if_backups_are_allowed() -> None:
    assert "secret-backup" in rendered()
    assert "secret-backup" not in rendered([name for name in ALL if name != "back_up"])


@pytest.mark.parametrize("name", ["restore", "purge_cache", "remove_host", "security_off"])
def test_list_that_names_something_else_is_refused(name: str) -> None:
    with pytest.raises(AnsibleFilterError, match=f"fleet_healing_actions: '{name}'"):
        rendered([*ALL, name])


def test_keys_of_hosts_are_those_that_they_reported_or_the_known_ones() -> None:
    variables = {
        **HOSTS,
        "katago-1": {**HOSTS["katago-1"], "fleet_healing_host_keys": "ssh-ed25519 AAA root@x"},
    }
    previous = "10.0.0.1 ssh-ed25519 OLD\n[10.0.0.2]:2222 ssh-ed25519 BBB\n10.9.9.9 ssh-ed25519 GONE\n"
    assert inventory.known_hosts(GROUPS, variables, previous) == (
        "10.0.0.1 ssh-ed25519 AAA\n[10.0.0.2]:2222 ssh-ed25519 BBB\n"
    )


@pytest.mark.parametrize(
    ("value", "which", "pattern"),
    [
        (None, "monitoring", fleet_hosts.NOBODY),
        (None, "all", fleet_hosts.NOBODY),
        (None, "pause", "mon-1"),
        (False, "monitoring", "mon-1"),
        (False, "all", "katago:load_balancer:monitoring"),
        (False, "enabled", fleet_hosts.NOBODY),
        (True, "enabled", "mon-1"),
        ("yes", "enabled", "mon-1"),
    ],
)
def test_only_the_first_monitoring_host_repairs_the_fleet(value: Any, which: str, pattern: str) -> None:
    hosts = {"mon-1": {} if value is None else {"fleet_healing_enabled": value}, "mon-2": {}}
    groups = {**GROUPS, "monitoring": ["mon-1", "mon-2"]}
    assert fleet_hosts.healing(which, groups, hosts) == pattern


def test_without_monitoring_no_play_runs() -> None:
    assert fleet_hosts.healing("pause", {"katago": ["a"]}, {}) == fleet_hosts.NOBODY


def test_bundle_has_the_collection_and_its_name_changes_with_it(tmp_path: Path) -> None:
    for part in ("meta", "playbooks", "plugins", "roles", "server"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "a.yml").write_text(part)
    (tmp_path / "playbooks" / "collections").symlink_to(tmp_path)
    before = bundle.name("wheels", tmp_path)
    with zipfile.ZipFile(tmp_path / "wheels.zip", "w") as wheels:
        wheels.writestr("x.whl", b"x")
    bundle.pack(tmp_path / "wheels.zip", tmp_path / "bundle.zip", tmp_path)
    with zipfile.ZipFile(tmp_path / "bundle.zip") as packed:
        assert set(packed.namelist()) == {
            "wheels/x.whl",
            *(f"{bundle.COLLECTION}/{part}/a.yml" for part in ("meta", "playbooks", "plugins", "roles")),
        }
    (tmp_path / "roles" / "a.yml").write_text("changed")
    assert bundle.name("wheels", tmp_path) != before != bundle.name("other", tmp_path)
