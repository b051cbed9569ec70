"""The result of a removal in sentences. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.katago.fleet.plugins.module_utils.removal.remove import Removed


def message(
    removed: Removed, *, kept: Sequence[str], packages: Sequence[str], repository: str, predicted: bool
) -> str:
    """What was removed, or would be, what stays, and where the backup is.

    `packages`: those that stay. `repository`: the address of the backups without secrets; empty for none.
    """
    if not removed:
        return "Nothing of this collection is on the host."
    items = [f"{name}{amount(size)}" for name, size in removed.sizes.items()]
    count = len(removed.units)
    items += [f"{count} unit{'s' if count > 1 else ''}"] if count else []
    items += ["the service's user and group"] if removed.user else []
    stays = [*kept, "the journal", *([f"the packages {', '.join(packages)}"] if packages else [])]
    backup = f"The backups stay in {repository}." if repository else "There are no backups."
    return (
        f"{'Would remove' if predicted else 'Removed'}: {', '.join(items)}."
        f" {'Would keep' if predicted else 'Kept'}: {'; '.join(stays)}. {backup}"
    )


def amount(size: int) -> str:
    """A size in parentheses; empty for less than half a megabyte."""
    if size >= 1e9:
        return f" ({size / 1e9:.1f} GB)"
    return f" ({size / 1e6:.0f} MB)" if size >= 5e5 else ""
