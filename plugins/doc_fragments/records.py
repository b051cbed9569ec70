"""The option `records_dir` of what reads or writes the records of incidents."""

from __future__ import annotations


class ModuleDocFragment:
    """Where the records are."""

    DOCUMENTATION = r"""
options:
  records_dir:
    description: Where records are kept on the control node.
    type: path
    required: true
"""
