"""Documents the option `settings` of the gpu_driver modules, defined in gpu/driver_settings.py."""

from __future__ import annotations


class ModuleDocFragment:
    """The driver's settings."""

    DOCUMENTATION = r"""
options:
  settings:
    description: The driver's settings, named like the role's variables without their prefix.
    type: dict
    default: {}
    suboptions:
      vendor:
        description:
          - The vendor of the GPUs to use. C(auto) uses the GPUs on the bus, C(none) makes the host a CPU
            host.
        type: str
        choices: [auto, nvidia, amd, intel, none]
        default: auto
      devices:
        description: GPUs to use instead of the GPUs on the bus, each with C(vendor) and C(device).
        type: list
        elements: dict
        default: []
      expected_devices:
        description:
          - The number of devices that C(nvidia-smi) must report. For AMD and Intel, the number of devices
            with a render node.
          - -1 expects all devices. 0 expects none.
        type: int
        default: -1
      source:
        description: The source of NVIDIA's driver.
        type: str
        choices: [distribution, nvidia]
        default: distribution
      repository:
        description:
          - C(url) is the address of NVIDIA's repository or of a mirror. C(key) is the armoured key that signs
            it.
        type: dict
        default: {}
      kernel_module:
        description: The kind of NVIDIA's kernel module.
        type: str
        choices: [proprietary, open]
        default: proprietary
      branch:
        description: The driver's branch. If empty, the system's default branch.
        type: str
        default: ""
      version:
        description:
          - The driver's version. If empty, the installed version is kept. C(latest) is the newest of the
            branch.
        type: str
        default: ""
      opencl:
        description: The OpenCL implementation for an AMD or Intel GPU.
        type: str
        default: ""
      headers:
        description: The kernel header packages. Needed only if the host's kernels belong to no package.
        type: list
        elements: str
        default: []
      reboot:
        description: Whether the host may be rebooted.
        type: str
        choices: [never, when_needed]
        default: never
      force:
        description: Try a combination that is known to fail, or a change that cannot be restored.
        type: bool
        default: false
"""
