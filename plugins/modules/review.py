#!/usr/bin/python
"""Documents `katago.fleet.review`, which works on the control node alone."""

from __future__ import annotations

DOCUMENTATION = r"""
module: review
short_description: Build the review of an incident
description:
  - Writes C(review.md) and C(review.html) to C(<records_dir>/incidents/<incident>/) on the control node, from
    the incident's record and its evidence, and C(answers.yml) for people when there is none; that is never
    overwritten.
  - Says what is unanswered, by whom and by when. Refuses answers that do not fit, with file, line and field.
  - Runs once for the whole play and asks no host. In check mode only says what would be written.
options:
  incident:
    description: The incident's id.
    type: str
    required: true
extends_documentation_fragment: [katago.fleet.records]
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: The review is built
  katago.fleet.review:
    records_dir: records
    incident: 2026-11-24-1
"""

RETURN = r"""
complete:
  description: Whether nothing is left to answer.
  type: bool
  returned: when it was built
unanswered:
  description: What is left to answer.
  type: list
  elements: str
  returned: when it was built
due:
  description: When it is due, in UTC; empty while the incident is open.
  type: str
  returned: when it was built
who:
  description: Who sees to it.
  type: str
  returned: when it was built
"""
