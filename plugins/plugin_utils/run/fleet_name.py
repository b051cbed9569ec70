"""The name of a fleet, which tells its backups, alerts and drills from those of another fleet."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

VARIABLE = "fleet_name"
_INVENTORY = "inventory_dir"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class FleetNameError(Exception):
    """The fleet has no usable name. The message says which variable to set."""


def of_task(variables: Mapping[str, Any], template: Callable[[Any], Any]) -> str:
    """The name of the fleet of a host with these variables.

    That is `fleet_name`, or else the name of the directory of the inventory. `template` renders a value.
    Raises FleetNameError.
    """
    if (given := template(variables.get(VARIABLE))) not in (None, ""):
        return checked(given, f"{VARIABLE} is {given!r}")
    directory = variables.get(_INVENTORY)
    if not directory:
        raise FleetNameError(
            f"The fleet has no name, because its inventory is not a file. Set {VARIABLE}, for example to"
            " production."
        )
    # Normal, because an inventory may be given as `.` or end with a slash.
    name = Path(str(directory)).resolve().name
    return checked(name, f"{VARIABLE} is not set, and the directory of the inventory is called {name!r}")


def checked(name: object, what: str) -> str:
    """The name, if it is one. `what` starts the message of the error. Raises FleetNameError."""
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    raise FleetNameError(
        f"{what}, which cannot name a fleet. Set {VARIABLE} to at most 63 letters, digits, dots, hyphens and"
        " underscores, such as production."
    )
