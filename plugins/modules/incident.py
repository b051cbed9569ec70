#!/usr/bin/python
"""Documents `katago.fleet.incident`, which works on the control node alone."""

from __future__ import annotations

DOCUMENTATION = r"""
module: incident
short_description: Record an incident and send its messages
description:
  - Appends to C(<records_dir>/incidents/<incident>/state.jsonl) on the control node, one writer at a
    time. A repeated alert joins the open incident.
  - Sends every message once to each group, to the first channel of the group that accepts it. Records the
    outcome. Check mode shows what would be sent, and sends and records nothing.
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
    description: A report of C(playbooks/triage.yml). The default is the C(triage_result) of the hosts.
    type: path
  service:
    description: The service's name in messages to the team.
    type: str
  status_page:
    description: The address of the status page; it is named in the declaration.
    type: str
  page_title:
    description: The status page's title.
    type: str
  public_texts:
    description: The text of the status page for each status.
    type: dict
  jargon:
    description: Words that must not appear on the status page.
    type: list
    elements: str
  channels:
    description: Groups of channels; see the role C(incident). Secrets in it are neither shown nor recorded.
    type: raw
  roster:
    description: The contacts; see the role C(incident).
    type: raw
  escalate_to:
    description: The role in the roster that is called by default.
    type: str
  escalate_automatically:
    description: Whether to call the contacts that the runbook names automatically, once for each reason.
    type: bool
    default: true
extends_documentation_fragment: [katago.fleet.records]
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Record the incident and send its messages
  katago.fleet.incident:
    records_dir: records
    verb: open
    inputs: {lead: Anna}
    service: KataGo MCP Server
    page_title: Status
    public_texts: {}
    jargon: []
    channels: []
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
levels:
  description: The worst level of each host that triage measured so far, by host.
  type: dict
  returned: when something was recorded or sent
status:
  description: Its status, one of investigating, identified, monitoring and resolved.
  type: str
  returned: when something was recorded or sent
respond_by:
  description: The deadline of the first response, in UTC.
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
  description: The messages that were sent, each with its channel.
  type: list
  elements: str
  returned: when something was recorded or sent
passed:
  description: Channels that failed or reached only some recipients, while the message was delivered.
  type: list
  elements: str
  returned: when something was recorded or sent
problems:
  description: Messages that were not delivered, or may not have been, with the reasons.
  type: list
  elements: str
  returned: always
"""
