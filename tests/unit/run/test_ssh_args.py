"""What the inventory says of SSH is kept: options are added to it."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.lookup.ssh_args import LookupModule

OWN = "-o ProxyJump=bastion -o ServerAliveInterval=7"


def ssh_args(host: dict[str, Any], **options: bool) -> str:
    variables = {"inventory_hostname": "katago-1", "hostvars": {"katago-1": host}}
    (found,) = LookupModule().run([], {**variables, "ansible_ssh_args": "of the play"}, **options)
    return str(found)


def first(arguments: str, option: str) -> str:
    """The value of an option that ssh takes: the first one."""
    return next(
        word.partition("=")[2] for word in arguments.split() if word.lower().startswith(f"{option.lower()}=")
    )


@pytest.mark.parametrize("fresh", [True, False])
def test_options_of_the_inventory_are_kept(fresh: bool) -> None:
    found = ssh_args({"ansible_ssh_args": OWN}, fresh=fresh)
    assert OWN in found
    assert first(found, "ProxyJump") == "bastion"


def test_fresh_connection_shares_none_and_notices_a_frozen_host() -> None:
    found = ssh_args({"ansible_ssh_args": f"{OWN} -o ControlMaster=auto -o ControlPath=/run/x"}, fresh=True)
    assert first(found, "ControlMaster") == "no"
    assert first(found, "ControlPath") == "none"
    assert first(found, "ServerAliveInterval") == "5"


def test_other_connections_keep_their_own_interval_and_have_one_otherwise() -> None:
    assert first(ssh_args({"ansible_ssh_args": OWN}), "ServerAliveInterval") == "7"
    assert first(ssh_args({"ansible_ssh_args": "-C"}), "ServerAliveInterval") == "15"


def test_configured_options_are_taken_where_the_inventory_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSIBLE_SSH_ARGS", "-o ProxyJump=configured")
    assert first(ssh_args({}, fresh=True), "ProxyJump") == "configured"
    monkeypatch.delenv("ANSIBLE_SSH_ARGS")
    assert first(ssh_args({}), "ControlMaster") == "auto"


def test_empty_options_of_the_inventory_are_options() -> None:
    assert "Persist" not in ssh_args({"ansible_ssh_args": ""})
