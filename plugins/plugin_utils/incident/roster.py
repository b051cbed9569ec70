"""Whom to call: the inventory's roster, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.incident import wording
from ansible_collections.katago.fleet.plugins.module_utils.incident.messages import Contact

_FIELDS = ("name", "email", "phone")


class RosterError(Exception):
    """Nobody can be called by this roster; the message says why, without telling contacts."""


def contact(roster: object, role: str) -> Contact:
    """Who has a role.

    Raises:
        RosterError: if nobody has it, or the contact is a placeholder.
    """
    contacts = _contacts(roster)
    if role not in contacts:
        known = ", ".join(sorted(contacts)) or "nobody"
        raise RosterError(f"incident_roster has no {role!r}; it has {known}")
    entry = contacts[role]
    if found := list(_entry_problems(role, entry)):
        raise RosterError("; ".join(found))
    return Contact(role, *(str(entry.get(name) or "") for name in _FIELDS))


def roles(roster: object) -> list[str]:
    """The roles that have a contact, whatever is wrong with it."""
    return sorted(_contacts(roster))


def problems(roster: object, today: date) -> Iterator[str]:
    """A sentence for every contact that is none, and for a roster that nobody has looked through in time."""
    contacts = _contacts(roster)
    for role, entry in contacts.items():
        yield from _entry_problems(role, entry)
    if contacts and isinstance(roster, Mapping):
        due = str(roster.get("verify_by") or "")
        try:
            overdue = date.fromisoformat(due) < today
        except ValueError:
            yield f"incident_roster.verify_by is {due!r}; give the date by which somebody looks it through"
        else:
            if overdue:
                yield f"incident_roster was to be looked through by {due}: its contacts may be old"


def _contacts(roster: object) -> Mapping[str, Any]:
    found = roster.get("contacts") if isinstance(roster, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _entry_problems(role: str, entry: object) -> Iterator[str]:
    where = f"incident_roster.contacts.{role}"
    if not isinstance(entry, Mapping):
        yield f"{where} must have name, and email or phone"
        return
    if not entry.get("name"):
        yield f"{where} has no name"
    if not entry.get("email") and not entry.get("phone"):
        yield f"{where} has neither email nor phone"
    for name in _FIELDS:
        if entry.get(name) and wording.is_placeholder(str(entry[name])):
            yield f"{where}.{name} is a placeholder"
    if entry.get("email") and "@" not in str(entry["email"]):
        yield f"{where}.email is no address"
