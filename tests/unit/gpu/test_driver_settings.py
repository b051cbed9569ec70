"""The settings of the driver's modules."""

from __future__ import annotations

import yaml

from ansible_collections.katago.fleet.plugins.doc_fragments.gpu_driver import ModuleDocFragment
from ansible_collections.katago.fleet.plugins.module_utils.gpu import driver_settings


def test_settings_come_from_the_modules_options() -> None:
    options = {
        "vendor": "auto",
        "devices": [],
        "expected_devices": -1,
        "source": "nvidia",
        "repository": {"key": "armoured"},
        "kernel_module": "open",
        "branch": "",
        "version": "",
        "opencl": "",
        "headers": [],
        "reboot": "never",
        "force": False,
    }
    settings = driver_settings.from_options(options)
    assert (settings.devices, settings.expected, settings.key) == (None, None, "armoured")
    assert (settings.source, settings.kernel_module) == ("nvidia", "open")
    assert driver_settings.from_options({**options, "expected_devices": 0}).expected == 0


def test_documented_settings_match_the_argument_spec() -> None:
    documented = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]["settings"]["suboptions"]
    specified = driver_settings.ARGUMENTS["options"]
    assert documented.keys() == specified.keys()
    for name, option in specified.items():
        for key in ("default", "choices", "elements"):
            assert documented[name].get(key) == option.get(key), name
