"""The option `settings` of the modules gpu_driver_*, which module_utils/gpu/driver_settings.py specifies."""

from __future__ import annotations


class ModuleDocFragment:
    """What is wanted of a driver."""

    DOCUMENTATION = r"""
options:
  settings:
    description: What is wanted, the role's variables without their prefix.
    type: dict
    default: {}
    suboptions:
      vendor:
        description: Whose GPUs are used; C(auto) takes those on the bus, C(none) makes it a CPU host.
        type: str
        choices: [auto, nvidia, amd, intel, none]
        default: auto
      devices:
        description: GPUs in place of those on the bus; C(vendor) and C(device) of each.
        type: list
        elements: dict
        default: []
      expected_devices:
        description:
          - How many devices C(nvidia-smi) must name, or of AMD's and Intel's have a render node.
          - -1 for as many as there are, 0 asks none.
        type: int
        default: -1
      source:
        description: Where NVIDIA's driver comes from.
        type: str
        choices: [distribution, nvidia]
        default: distribution
      repository:
        description: C(url) of NVIDIA's repository or a mirror, and C(key), the armoured key that signs it.
        type: dict
        default: {}
      kernel_module:
        description: Which of NVIDIA's kernel modules.
        type: str
        choices: [proprietary, open]
        default: proprietary
      branch:
        description: The driver's branch; the system's own when it is empty.
        type: str
        default: ""
      version:
        description: The driver's version; empty keeps what is installed, C(latest) is the branch's newest.
        type: str
        default: ""
      opencl:
        description: Which OpenCL for a GPU of AMD or Intel.
        type: str
        default: ""
      headers:
        description: Packages with the kernels' headers, where the host's kernels belong to no package.
        type: list
        elements: str
        default: []
      reboot:
        description: Whether the host may be rebooted.
        type: str
        choices: [never, when_needed]
        default: never
      force:
        description: Try a combination that is known to fail, or a change that no archive could restore.
        type: bool
        default: false
"""
