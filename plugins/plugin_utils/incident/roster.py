"""Reads and checks the roster of contacts (`incident_roster`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.incident import wording
from ansible_collections.katago.fleet.plugins.module_utils.incident.messages import Contact

_FIELDS = ("name", "email", "phone")


class RosterError(Exception):
    """The roster has no usable contact. The message gives the reason, without any contact details."""


def contact(roster: object, role: str) -> Contact:
    """The contact with a role.

    Raises:
        RosterError: if nobody has the role, or the contact is not usable.
    """
    contacts = _contacts(roster)
    if role not in contacts:
        listing = ", ".join(sorted(contacts)) or "none"
        raise RosterError(f"incident_roster has no contact {role!r}; its contacts: {listing}")
    entry = contacts[role]
    if problems := list(_entry_problems(role, entry)):
        raise RosterError("; ".join(problems))
    return Contact(role, *(str(entry.get(name) or "") for name in _FIELDS))


def roles(roster: object) -> list[str]:
    """The roles that have a contact, valid or not."""
    return sorted(_contacts(roster))


def problems(roster: object, today: date) -> Iterator[str]:
    """A message for each invalid contact, and for a roster whose review date has passed."""
    contacts = _contacts(roster)
    for role, entry in contacts.items():
        yield from _entry_problems(role, entry)
    if contacts and isinstance(roster, Mapping):
        due = str(roster.get("verify_by") or "")
        try:
            overdue = date.fromisoformat(due) < today
        except ValueError:
            yield (
                f"incident_roster.verify_by is {due!r}. Give the date by which somebody must verify the"
                " contacts, such as 2027-03-31."
            )
        else:
            if overdue:
                yield (
                    f"incident_roster was due to be verified by {due}. Its contacts may be outdated. Verify"
                    " them, then set a new verify_by."
                )


def _contacts(roster: object) -> Mapping[str, Any]:
    contacts = roster.get("contacts") if isinstance(roster, Mapping) else None
    return contacts if isinstance(contacts, Mapping) else {}


def _entry_problems(role: str, entry: object) -> Iterator[str]:
    where = f"incident_roster.contacts.{role}"
    if not isinstance(entry, Mapping):
        yield f"{where} must be a mapping with name, and email or phone"
        return
    if not entry.get("name"):
        yield f"{where} has no name"
    if not entry.get("email") and not entry.get("phone"):
        yield f"{where} has neither email nor phone"
    for name in _FIELDS:
        if entry.get(name) and wording.is_placeholder(str(entry[name])):
            yield f"{where}.{name} is a placeholder"
    if entry.get("email") and "@" not in str(entry["email"]):
        yield f"{where}.email is not an email address"
