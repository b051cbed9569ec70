"""A switch that a rollout has planned is refused if somebody else has switched the host since."""

from __future__ import annotations

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.service import switch
from ansible_collections.katago.fleet.plugins.modules import release_switch


@pytest.mark.parametrize(
    ("planned_from", "current", "origin"),
    [
        (None, "other", "other"),
        ("old", "old", "old"),
        ("", None, None),
        # A rollback was killed after its switch: it is planned from the release that it has left.
        ("new", "old", "new"),
    ],
)
def test_host_is_as_it_was_planned(planned_from: str | None, current: str | None, origin: str | None) -> None:
    release_switch.require_planned(planned_from, current, origin)


@pytest.mark.parametrize(("planned_from", "current"), [("old", "newer"), ("", "newer"), ("old", None)])
def test_host_that_was_switched_since_is_refused(planned_from: str, current: str | None) -> None:
    with pytest.raises(switch.SwitchError, match="Somebody else has switched this host"):
        release_switch.require_planned(planned_from, current, current)
