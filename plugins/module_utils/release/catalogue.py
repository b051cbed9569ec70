"""The releases on a host, and what is known of each, for an operator who has to choose one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ansible_collections.katago.fleet.plugins.module_utils.release import history
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout

_LONGEST_REASON = 120
_MOST_DAMAGE = 2
ROLLBACK = "ansible-playbook playbooks/rollback.yml -l HOST -e release="


def describe(
    layout: release_layout.Layout, records: Sequence[history.Record], current: str | None
) -> dict[str, str]:
    """The releases on the host, the newest switch first: name to what is known of it, as part of a sentence.

    Verifies the checksums of all of them.
    """
    switches = [record.release for record in records if record.verdict is None]
    names = {path.name for path in layout.releases.glob("*") if path.is_dir() and path.name[0] != "."}
    order = [*dict.fromkeys(reversed(switches)), *sorted(names - set(switches))]
    return {
        name: "; ".join(_facts(layout, records, name, is_current=name == current))
        for name in order
        if name in names
    }


def selectable(
    layout: release_layout.Layout, records: Sequence[history.Record], current: str | None
) -> str | None:
    """The command that rolls back to the best of the other intact releases; None if there is none.

    The last validated one, else the newest without a verdict, else the newest rejected one.
    """
    verdicts = {name: history.verdict_on(records, name) for name in layout.complete() if name != current}
    intact = [name for name in verdicts if not release_layout.damage(layout.release(name))]

    def preference(name: str) -> tuple[int, str]:
        record = verdicts[name]
        return (1, "") if record is None else (2 if record.verdict == "good" else 0, record.at)

    if not intact:
        return None
    best = max(intact, key=preference)
    rejected = " -e allow_rejected=true" if preference(best)[0] == 0 else ""
    return f"{ROLLBACK}{best}{rejected}"


def _facts(
    layout: release_layout.Layout, records: Sequence[history.Record], name: str, *, is_current: bool
) -> Iterator[str]:
    if is_current:
        yield "current"
    verdict = history.verdict_on(records, name)
    if verdict is None:
        yield "never validated"
    elif verdict.verdict == "good":
        yield f"validated on {verdict.at}"
    else:
        reason = " ".join(verdict.why.split())
        short = reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}..."
        yield f"rejected on {verdict.at}: {short}"
    if left := history.left_by_rollback(records, name):
        yield f"a rollback left it on {left.at}"
    if name not in layout.complete():
        yield f"incomplete: it has no {release_layout.MANIFEST}"
    elif damage := release_layout.damage(layout.release(name)):
        more = f" and {len(damage) - _MOST_DAMAGE} more" if len(damage) > _MOST_DAMAGE else ""
        yield f"damaged: {', '.join(damage[:_MOST_DAMAGE])}{more}"
