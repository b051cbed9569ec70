"""Sandbox directives become properties of systemd-run."""

from ansible_collections.katago.fleet.plugins.module_utils.common import systemd_run


def test_list_yields_one_property_for_each_value() -> None:
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


def test_waiting_command_returns_its_output() -> None:
    command = systemd_run.command({"PrivateTmp": True}, ["/bin/true", "-x"])
    assert command[0] == "systemd-run"
    assert {"--pipe", "--wait", "--property=PrivateTmp=yes"} <= set(command)
    assert command[-3:] == ["--", "/bin/true", "-x"]


def test_command_without_waiting_has_its_own_unit() -> None:
    command = systemd_run.command({}, ["/bin/true"], unit="tuning", wait=False)
    assert "--unit=tuning" in command
    assert "--pipe" not in command
