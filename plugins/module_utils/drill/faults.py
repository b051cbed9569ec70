"""The faults that a drill can inject, by name."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.katago.fleet.plugins.module_utils.drill import (
    faults_files,
    faults_host,
    faults_service,
)
from ansible_collections.katago.fleet.plugins.module_utils.drill.fault import Fault

FAULTS: Mapping[str, Fault] = {
    each.name: each for each in (*faults_service.FAULTS, *faults_files.FAULTS, *faults_host.FAULTS)
}
