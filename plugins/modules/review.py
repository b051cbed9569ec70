#!/usr/bin/python
"""Documents `katago.fleet.review`, which works on the control node alone."""

from __future__ import annotations

DOCUMENTATION = r"""
module: review
short_description: Build the review of an incident
description:
  - Writes C(review.md) and C(review.html) to C(<records_dir>/incidents/<incident>/) on the control node, from
    the incident's record and its evidence.
  - Creates C(answers.yml) there for people to fill in. An existing file is never overwritten.
  - Reports the open questions, who must answer them and by when. Refuses invalid answers, and names file,
    line and field.
  - Runs once for the whole play and connects to no host. Check mode only reports what would be written.
options:
  incident:
    description: The incident's id.
    type: str
    required: true
extends_documentation_fragment: [katago.fleet.records]
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Build the review
  katago.fleet.review:
    records_dir: records
    incident: 2026-11-24-1
"""

RETURN = r"""
complete:
  description: Whether all questions are answered.
  type: bool
  returned: when the review was built
unanswered:
  description: The open questions.
  type: list
  elements: str
  returned: when the review was built
due:
  description: When the review is due, in UTC; empty while the incident is open.
  type: str
  returned: when the review was built
who:
  description: Who is responsible for the review.
  type: str
  returned: when the review was built
"""
