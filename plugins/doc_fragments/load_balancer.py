"""Documents the option that the modules of a load balancer's units have in common."""

from __future__ import annotations


class ModuleDocFragment:
    """The sandbox of a unit."""

    DOCUMENTATION = r"""
options:
  sandbox:
    description:
      - The sandbox of the unit, as directives of systemd by name. The unit is restarted if it changed.
    type: dict
    required: true
"""
