"""Documents the option `records_dir` of the modules that read or write the fleet's records."""

from __future__ import annotations


class ModuleDocFragment:
    """The directory of the records."""

    DOCUMENTATION = r"""
options:
  records_dir:
    description: The directory of the records on the control node.
    type: path
    required: true
"""
