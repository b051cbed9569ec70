#!/usr/bin/python
"""Documentation of the action plugin `host_tmpdir`, which runs no module on the host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_tmpdir
short_description: Find a directory for temporary files on a host
description:
  - Ansible's modules need temporary files. If C(/tmp) is full, has no inodes left, or is read-only, they fail
    with C(No start of json char found).
  - Tries by writing whether C(TMPDIR) or C(/tmp), and Ansible's own directory for files in transit, work.
    If they do not, warns and chooses C(/var/tmp) or C(/dev/shm), or C(/var/cache/katago-ansible) for files
    in transit.
  - Fails if no directory works. Leaves nothing behind on the host.
options:
  needed_mb:
    description: The megabytes that must be free. The default is enough for the modules of this collection.
    type: int
    default: 2
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Find a directory for temporary files
  katago.fleet.host_tmpdir:
  register: tmpdir
"""

RETURN = r"""
environment:
  description: The C(environment) for all further tasks; empty if the usual directory works.
  type: dict
  returned: success
remote_tmp:
  description: What C(ansible_remote_tmp) must be; empty if the usual directory works.
  type: str
  returned: success
"""
