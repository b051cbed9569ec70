"""Documents the option that the modules have in common that judge what load balancers answered."""

from __future__ import annotations


class ModuleDocFragment:
    """The answers of all load balancers."""

    DOCUMENTATION = r"""
options:
  answers:
    description:
      - The results of M(katago.fleet.load_balancer_rotation) in a loop, one for each load balancer.
    type: list
    elements: dict
    required: true
"""
