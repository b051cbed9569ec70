"""Reads all records on the control node, and writes reviews and reports there if they changed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import directories, files
from ansible_collections.katago.fleet.plugins.module_utils.incident import state
from ansible_collections.katago.fleet.plugins.plugin_utils.evidence import records
from ansible_collections.katago.fleet.plugins.plugin_utils.incident import outbox, store
from ansible_collections.katago.fleet.plugins.plugin_utils.review import answers, blocks, quarterly
from ansible_collections.katago.fleet.plugins.plugin_utils.review import document as review_document
from ansible_collections.katago.fleet.plugins.plugin_utils.review import sources as review_sources

KINDS = ("incidents", "drills")
"""The directories of records; a drill has the same files as an incident."""


@dataclass(frozen=True)
class Built:
    """A built review: its progress, the answers, and the files that changed."""

    standing: answers.Standing
    answer_set: answers.Answers
    written: tuple[Path, ...]


def build(root: Path, incident: str, fleet: Sequence[str], *, dry: bool) -> Built:
    """Build the review of an incident. With `dry`, only return the files that would change.

    Raises:
        RecordError: if the id is not valid or the incident has no record.
        DamagedError: if the incident's record has an invalid line.
        AnswersError: if the answers are not valid.
    """
    sources = review_sources.read(root, incident, fleet)
    directory = root / "incidents" / incident
    answer_set = _answers(directory)
    contents = {}
    if not (directory / answers.FILE).exists():
        contents[directory / answers.FILE] = answers.template(sources.incident)
    contents |= _both(directory / "review", review_document.build(sources, answer_set))
    standing = answers.standing(sources.incident, answer_set)
    return Built(standing, answer_set, write(contents, dry=dry))


def report(root: Path, name: str, document: blocks.Document, *, dry: bool) -> tuple[Path, ...]:
    """Write a report as `reports/<name>.md` and `.html`; return the files that changed."""
    return write(_both(root / "reports" / name, document), dry=dry)


def write(contents: dict[Path, str], *, dry: bool) -> tuple[Path, ...]:
    """Write the files whose content differs, each atomically, readable by the owner only. Return them."""
    changed = []
    for path, text in contents.items():
        content = text.encode()
        if path.exists() and path.read_bytes() == content:
            continue
        changed.append(path)
        if not dry:
            directories.make(path.parent, mode=directories.PRIVATE)
            files.write(path, content, mode=0o600)
    return tuple(changed)


def read_all(root: Path) -> quarterly.Records:
    """All incidents and drills. Unreadable records are left out and listed in `unread`."""
    readable: list[quarterly.Record | None] = []
    unread: list[str] = []
    for kind in KINDS:
        for path in sorted((root / kind).glob(f"*/{store.STATE}")):
            try:
                readable.append(_record(path, unread, is_drill=kind == "drills"))
            except (state.DamagedError, OSError) as error:
                unread.append(str(error).replace(f"{root}/", ""))
    other = root / "incidents" / records.NO_INCIDENT / "timeline.jsonl"
    return quarterly.Records(tuple(each for each in readable if each), tuple(_events(other)), tuple(unread))


def _record(path: Path, unread: list[str], *, is_drill: bool) -> quarterly.Record | None:
    content = path.read_bytes()
    folded = state.fold(content, str(path))
    if folded.incident is None:
        return None
    # A drill may also be stored with the incidents; its first line then has `drill`.
    is_drill = is_drill or bool(json.loads(content.partition(b"\n")[0]).get("drill"))
    try:
        answer_set = _answers(path.parent)
    except answers.AnswersError as error:
        answer_set = answers.Answers()
        unread += str(error).splitlines()
    timeline = tuple(_events(path.with_name("timeline.jsonl")))
    return quarterly.Record(folded.incident, timeline, answer_set, is_drill, content)


def _events(path: Path) -> Iterator[dict[str, object]]:
    """The events of procedures that have a time."""
    for event in outbox.read_timeline(path):
        try:
            timestamps.parse(event["at"])
        except ValueError:
            continue
        if event.get("procedure"):
            yield event


def _answers(directory: Path) -> answers.Answers:
    path = directory / answers.FILE
    name = "/".join(path.parts[-3:])
    try:
        return answers.parse(path.read_text(), name)
    except FileNotFoundError:
        return answers.Answers()
    except UnicodeDecodeError as error:
        raise answers.AnswersError(f"{name}: not valid UTF-8: {error.reason}") from error


def _both(stem: Path, document: blocks.Document) -> dict[Path, str]:
    return {
        stem.with_name(f"{stem.name}.md"): blocks.as_markdown(document),
        stem.with_name(f"{stem.name}.html"): blocks.as_html(document),
    }
