"""Where the control node keeps its records: decided here, for every plugin and role."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

VARIABLE = "katago_records_dir"
DEFAULT_NAME = ".katago-records"
"""Below the inventory's directory. Ansible reads every file of an inventory directory as inventory, also
those that came from hosts, except where the name begins with a dot."""
RETIRED = tuple(f"{role}_records_dir" for role in ("procedure", "evidence", "incident", "review", "watch"))
"""What roles called it up to version 0.1.0."""

_KINDS = ("drills", "evidence", "incidents", "reports")
_ROOT = Path(__file__).resolve().parents[3]
_NOT_INVENTORY = ("group_vars", "host_vars")


class PlaceError(Exception):
    """Records cannot be kept, or not safely; the message is a sentence that says what to do."""


def of_task(variables: Mapping[str, Any], template: Callable[[Any], Any], *, root: Path = _ROOT) -> Path:
    """The directory of the records for a task, a lookup or a play with these variables.

    `template` renders a value. Raises PlaceError.
    """
    values = {name: template(variables[name]) for name in (VARIABLE, *RETIRED) if name in variables}
    return decide(values, variables.get("ansible_inventory_sources") or [], root=root)


def problems(variables: Mapping[str, Any], template: Callable[[Any], Any]) -> list[str]:
    """Why a task with these variables cannot keep records, a sentence; [] when it can."""
    try:
        of_task(variables, template)
    except PlaceError as error:
        return [str(error)]
    return []


def decide(variables: Mapping[str, Any], sources: Sequence[str], *, root: Path = _ROOT) -> Path:
    """The directory of the records of a fleet.

    It never depends on the current directory, and never lies where an update would delete it.

    Args:
        variables: rendered values, by name.
        sources: the inventories of the run, as Ansible names them.
        root: where this collection lies.

    Raises:
        PlaceError: when there is no place, or more than one, or records of version 0.1.0 wait to be moved.
    """
    for name in RETIRED:
        if variables.get(name):
            raise PlaceError(
                f"{name} is no longer read, since all records of a fleet lie together:"
                f" set {VARIABLE} to {variables[name]} instead."
            )
    directories = list(dict.fromkeys(_inventory_directories(sources)))
    if value := variables.get(VARIABLE):
        place = _absolute(str(value))
        _refuse_inventory(place, sources)
    else:
        place = _beside(directories, sources)
    _refuse_installed(place)
    if not variables.get(VARIABLE) and not holds_records(place):
        for old in left_behind(directories, root):
            raise PlaceError(
                f"The records of version 0.1.0 are in {old}: move them with `{_move(old, place)}`,"
                f" or, if they belong to another fleet, set {VARIABLE} in this fleet's inventory."
            )
    return place


def holds_records(directory: Path) -> bool:
    """Whether anything was ever recorded below a directory."""
    return any(
        path.is_dir() or path.suffix == ".md" for kind in _KINDS for path in (directory / kind).glob("*")
    )


def left_behind(directories: Sequence[Path], root: Path) -> list[Path]:
    """Records that lie where version 0.1.0 kept them: beside the playbooks of a checkout."""
    above = [path for directory in directories for path in (directory, *directory.parents[:2])]
    checkouts = [path for path in (root, *above) if (path / "roles" / "katago_mcp").is_dir()]
    return [path / "records" for path in dict.fromkeys(checkouts) if holds_records(path / "records")]


def notice(variables: Mapping[str, Any], sources: Sequence[str], place: Path, *, root: Path = _ROOT) -> str:
    """A sentence on records of version 0.1.0 that a chosen, empty directory leaves behind; or empty."""
    if not variables.get(VARIABLE) or holds_records(place):
        return ""
    old = [path for path in left_behind(list(_inventory_directories(sources)), root) if path != place]
    if not old:
        return ""
    return (
        f"{place} has no records yet, and those of version 0.1.0 are in {old[0]}:"
        f" `{_move(old[0], place)}` if they belong to this fleet."
    )


def installed_collection(path: Path) -> Path | None:
    """The installed collection that a path lies in, whose files an update deletes."""
    for directory in (path, *path.parents):
        if (directory / "MANIFEST.json").is_file() and directory.parent.parent.name == "ansible_collections":
            return directory
    return None


def _move(old: Path, place: Path) -> str:
    return f"mv -T {shlex.quote(str(old))} {shlex.quote(str(place))}"


def _inventory_directories(sources: Sequence[str]) -> Iterator[Path]:
    """The directories of inventories that are files or directories; lists of hosts and pipes have none."""
    for source in sources:
        path = _normal(Path(source))
        if path.is_dir():
            yield path
        elif path.is_file():
            yield path.parent


def _beside(directories: Sequence[Path], sources: Sequence[str]) -> Path:
    places = [directory / DEFAULT_NAME for directory in directories]
    if not places:
        raise PlaceError(
            f"The inventory {' '.join(sources)!r} has no directory in which records could be kept: give one"
            f" with -e {VARIABLE}=DIRECTORY."
        )
    if len(places) > 1:
        # The order of -i decides nothing: another order would begin an empty history.
        used = [place for place in places if holds_records(place)]
        if len(used) != 1:
            shown = " and ".join(str(place) for place in (used or places))
            raise PlaceError(
                f"The inventories lie in several directories, and records could be in {shown}: say where"
                f" with {VARIABLE} in the inventory."
            )
        return used[0]
    return places[0]


def _absolute(value: str) -> Path:
    path = Path(value).expanduser()
    if not path.is_absolute():
        raise PlaceError(
            f"{VARIABLE} is {value!r}, and which directory that is would depend on where the command is run:"
            " give an absolute path."
        )
    return _normal(path)


def _refuse_inventory(place: Path, sources: Sequence[str]) -> None:
    for source in sources:
        directory = _normal(Path(source))
        if not directory.is_dir() or not place.is_relative_to(directory):
            continue
        inside = place.relative_to(directory).parts
        if not any(name.startswith(".") or name in _NOT_INVENTORY for name in inside):
            raise PlaceError(
                f"{VARIABLE} is {place}, which lies in the inventory {directory}: Ansible would read the"
                " records as inventory. Name a directory outside, or one that begins with a dot."
            )


def _refuse_installed(place: Path) -> None:
    for path in (place, place.resolve()):
        if collection := installed_collection(path):
            raise PlaceError(
                f"Records in {place} would be lost when the collection in {collection} is installed again:"
                f" copy the inventory to a directory of your own, or set {VARIABLE}."
            )


def _normal(path: Path) -> Path:
    # As Ansible does it: links are kept, so that group_vars and records are found beside the same name.
    return Path(os.path.abspath(path.expanduser()))  # noqa: PTH100 (resolve follows links)
