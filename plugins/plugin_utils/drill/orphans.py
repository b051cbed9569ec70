"""Drills whose runs are gone: their records are closed as aborted, and get a scorecard as every drill."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.plugin_utils.drill import archive, cards
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.record import Record
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.store import DrillRecords
from ansible_collections.katago.fleet.plugins.plugin_utils.traffic import prober


def close(root: Path, record: Record) -> str:
    """End the prober of a drill, close its record and write its scorecard.

    Returns why there is no scorecard; empty if there is one. Raises OSError.
    """
    records = DrillRecords(root)
    if running := prober.running(records.prober(record["id"])):
        running.stop()
    records.close_orphan(record, timestamps.now(), "The run of the drill was killed.")
    try:
        cards.write(root, record["id"], dry=False)
    except archive.RecordError as error:
        return str(error)
    return ""
