"""Runs the gpu_driver modules' actions, and turns their errors into module failures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils.common.apt import PackagesError
from ansible_collections.katago.fleet.plugins.module_utils.common.os_release import OsReleaseError
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_error import DriverError
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_record import RecordError


def run(module: AnsibleModule, act: Callable[[], Mapping[str, Any]]) -> None:
    """Call `act` and exit with its result; fail with the message of an expected error.

    The failure's `refused` is true if nothing was changed on the host.
    """
    try:
        result = act()
    except DriverError as error:
        module.fail_json(msg=str(error), refused=error.refused)
    except (RecordError, PackagesError, OsReleaseError, OSError) as error:
        module.fail_json(msg=str(error), refused=False)
    module.exit_json(**{"changed": False, **result})
