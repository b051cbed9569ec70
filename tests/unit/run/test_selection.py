"""Procedures that must reach no other host work only on hosts that the operator has named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.katago.fleet.plugins.plugin_utils.run import selection

ONE = selection.Selection(
    procedure="remove_host",
    limit="katago-1",
    fleet=["katago-1", "katago-2", "katago-3"],
    confirm="katago-1",
    last_host=False,
)


def problems(**changes: object) -> list[str]:
    return list(selection.problems(replace(ONE, **changes)))  # type: ignore[arg-type]


def test_named_and_confirmed_host_is_accepted() -> None:
    assert problems() == []
    assert problems(limit="katago-1, katago-2", confirm="katago-2,katago-1") == []


@pytest.mark.parametrize("limit", ["", "katago", "katago-*", "all:!katago-2", "@file", "katago-1,web"])
def test_everything_but_names_of_hosts_is_refused_with_the_hosts_that_exist(limit: str) -> None:
    (message,) = problems(limit=limit)
    assert "only on hosts that -l names one by one" in message
    assert message.endswith("Hosts of the fleet: katago-1, katago-2, katago-3.")


@pytest.mark.parametrize("confirm", ["", "katago-2", "katago-1,katago-2", "KATAGO-1", "yes"])
def test_confirmation_needs_exactly_the_names_of_the_limit(confirm: str) -> None:
    (message,) = problems(confirm=confirm)
    assert message.endswith("To confirm that katago-1 is meant, add: -e confirm=katago-1.")


def test_confirmation_is_not_asked_for_where_nothing_is_destroyed() -> None:
    assert problems(confirm=None) == []


def test_last_host_needs_a_word_of_its_own() -> None:
    (message,) = problems(fleet=["katago-1"])
    assert message.endswith("To continue anyway: -e last_host=true.")
    assert problems(fleet=["katago-1"], last_host=True) == []


def test_host_that_reminds_of_incidents_is_refused() -> None:
    (message,) = problems(reminder_host="katago-1")
    assert "Set incident_reminder_host to another host" in message
    assert problems(reminder_host="katago-2") == []
