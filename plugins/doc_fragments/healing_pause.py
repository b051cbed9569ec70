"""Documents the options that the modules have in common that pause and resume automatic repairs."""

from __future__ import annotations


class ModuleDocFragment:
    """Who pauses or resumes, and why."""

    DOCUMENTATION = r"""
options:
  why:
    description: The reason, one line of at most 1000 characters. Required for C(paused).
    type: str
    default: ""
  who:
    description: Who pauses or resumes.
    type: str
    required: true
  incident:
    description: The incident that the pause belongs to.
    type: str
    default: ""
"""
