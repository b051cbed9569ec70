"""Directives of the sandbox become properties and unit lines in the same words."""

from ansible_collections.katago.fleet.plugins.module_utils.common import systemd_run


def test_lists_give_a_line_for_each_value() -> None:
    assert systemd_run.properties(
        {
            "PrivateTmp": True,
            "PrivateDevices": False,
            "CapabilityBoundingSet": "",
            "SystemCallFilter": ["@system-service", "~@privileged"],
            "DeviceAllow": [],
        }
    ) == [
        "PrivateTmp=yes",
        "PrivateDevices=no",
        "CapabilityBoundingSet=",
        "SystemCallFilter=@system-service",
        "SystemCallFilter=~@privileged",
    ]


def test_waiting_command_brings_its_output_back() -> None:
    command = systemd_run.command({"PrivateTmp": True}, ["/bin/true", "-x"])
    assert command[0] == "systemd-run"
    assert {"--pipe", "--wait", "--property=PrivateTmp=yes"} <= set(command)
    assert command[-3:] == ["--", "/bin/true", "-x"]


def test_command_without_waiting_has_a_unit_of_its_own() -> None:
    command = systemd_run.command({}, ["/bin/true"], unit="tuning", wait=False)
    assert "--unit=tuning" in command
    assert "--pipe" not in command
