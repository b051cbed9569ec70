"""Writes the scorecard of a drill beside its record."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ansible_collections.katago.fleet.plugins.plugin_utils.drill import archive, compare, score, scorecard
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.record import FILE
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.scenarios import SCENARIOS
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.store import DrillRecords
from ansible_collections.katago.fleet.plugins.plugin_utils.review import blocks, records


@dataclass(frozen=True)
class Written:
    """A scorecard. `changed`: the files that differed. `unread`: records that it was not compared with."""

    card: scorecard.Card
    score: score.Score
    comparison: compare.Comparison
    paths: tuple[Path, ...]
    changed: tuple[Path, ...]
    unread: tuple[str, ...]


def write(root: Path, drill: str, *, dry: bool) -> Written:
    """Score a drill in a directory of records and write its scorecard. With `dry`, write nothing.

    Raises:
        RecordError: if the record cannot be read, the drill runs, or its scenario is unknown.
        OSError: if a file cannot be written.
    """
    directory = DrillRecords(root).directory(drill)
    record = archive.read(directory / FILE)
    if record["outcome"] == "running":
        raise archive.RecordError(f"{record['id']} has not ended. Wait for it, or run drill_abort.yml.")
    scenario = SCENARIOS.get(record["scenario"])
    if scenario is None:
        raise archive.RecordError(
            f"{record['id']} has the scenario {record['scenario']!r}, which this version does not have."
            " Score it with the version that ran it."
        )
    others = archive.read_all(root)
    graded = score.grade(record, scenario)
    comparison = compare.of(record, others.drills)
    card = scorecard.card(record, scenario, graded, comparison)
    document = scorecard.document(record, scenario, graded, comparison)
    contents = {
        directory / f"{scorecard.STEM}.json": scorecard.as_json(card),
        directory / f"{scorecard.STEM}.md": blocks.as_markdown(document),
        directory / f"{scorecard.STEM}.html": blocks.as_html(document, dark=True),
    }
    changed = records.write(contents, dry=dry)
    return Written(card, graded, comparison, tuple(contents), changed, others.unread)
