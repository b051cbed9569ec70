"""The settings of the driver's modules."""

from __future__ import annotations

from ansible_collections.katago.fleet.plugins.module_utils.gpu import driver_settings


def test_settings_are_the_modules_with_what_is_not_given_left_to_the_host() -> None:
    given = {
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
    settings = driver_settings.of(given)
    assert (settings.devices, settings.expected, settings.key) == (None, None, "armoured")
    assert (settings.source, settings.kernel_module) == ("nvidia", "open")
    assert driver_settings.of({**given, "expected_devices": 0}).expected == 0
