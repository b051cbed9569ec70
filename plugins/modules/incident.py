#!/usr/bin/python
"""Documents `katago.fleet.incident`, which works on the control node alone."""

from __future__ import annotations

DOCUMENTATION = r"""
module: incident
short_description: Record what happens with an incident, and tell those who are to know
description:
  - Appends to C(<records_dir>/incidents/<incident>/state.jsonl) on the control node, one writer at a
    time. The same alert joins the incident that is open.
  - Sends every message once to each group of sinks, to the first sink that takes it, and records what
    became of it. In check mode shows what would be sent.
  - Runs once for the whole play.
options:
  verb:
    description: What is done with the incident.
    type: str
    choices: [open, update, escalate, close, deliver, show]
    required: true
  inputs:
    description: The operator's inputs by name, those of the playbook C(incident_VERB.yml).
    type: dict
    default: {}
  only_check:
    description: Whether to check the request and the record only.
    type: bool
    default: false
  triage_json:
    description: A report of C(playbooks/triage.yml); the hosts' C(triage_result) when it is not given.
    type: path
  service:
    description: The service's name for the team.
    type: str
  status_page:
    description: The address of the status page, for the declaration.
    type: str
  page_title:
    description: The status page's title.
    type: str
  public_texts:
    description: What the public is told when an incident comes to a status, by status.
    type: dict
  jargon:
    description: Words that the public is not told.
    type: list
    elements: str
  sinks:
    description: Groups of sinks; see the role C(incident). Its secrets are neither shown nor recorded.
    type: raw
  roster:
    description: Whom to call; see the role C(incident).
    type: raw
  escalate_to:
    description: The role in the roster that is called when nothing says that another one is.
    type: str
  escalate_automatically:
    description: Whether those are called whom the runbook would have called, once for each reason.
    type: bool
    default: true
extends_documentation_fragment: [katago.fleet.records]
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: The incident is recorded, and those who are to know are told
  katago.fleet.incident:
    records_dir: records
    verb: open
    inputs: {lead: Anna}
    service: KataGo MCP Server
    page_title: Status
    public_texts: {}
    jargon: []
    sinks: []
    roster: {}
    escalate_to: senior
"""

RETURN = r"""
incident:
  description: The incident's id.
  type: str
  returned: when something was recorded or sent
severity:
  description: Its severity, P0 to P3.
  type: str
  returned: when something was recorded or sent
status:
  description: investigating, identified, monitoring or resolved.
  type: str
  returned: when something was recorded or sent
respond_by:
  description: When somebody must have responded, in UTC.
  type: str
  returned: when something was recorded or sent
update_due:
  description: When the next update is due, in UTC; empty for a closed incident.
  type: str
  returned: when something was recorded or sent
clock:
  description: The alarms for C(katago.fleet.incident_reminders).
  type: dict
  returned: when something was recorded or sent
sent:
  description: What was sent, and to which sink.
  type: list
  elements: str
  returned: when something was recorded or sent
passed:
  description: Sinks that did not take a message that another one took.
  type: list
  elements: str
  returned: when something was recorded or sent
problems:
  description: What nobody was told, and why.
  type: list
  elements: str
  returned: always
"""
