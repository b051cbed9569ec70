"""Runs Ansible during a drill as an operator does, with the same inventory: procedures and single modules."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible import context
from ansible.parsing.dataloader import DataLoader
from ansible.utils.vars import load_extra_vars

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.record import Action
from ansible_collections.katago.fleet.plugins.plugin_utils.run import procedures

BY = "drill"
# On a slow host, the last tasks of an interrupted procedure take this long to unlock it.
_STOP_SECONDS = 60


@dataclass(frozen=True)
class Setting:
    """How procedures are run.

    `playbook`: turns the name of a procedure into the argument of ansible-playbook. `inventory`: the sources
    of the run. `options`: further options, such as the file of a vault password. `variables`: extra
    variables of the run itself. `directory`: for the output of the procedures.
    """

    inventory: Sequence[str]
    variables: Mapping[str, object]
    incident: str
    directory: Path
    options: Sequence[str] = ()

    def command(self, playbook: str, hosts: Sequence[str], arguments: Mapping[str, str]) -> list[str]:
        """The command line of a procedure."""
        words = [_program("ansible-playbook"), playbook, *self._common()]
        if hosts:
            words += ["-l", ",".join(hosts)]
        extra = {**self.variables, **arguments, "incident": self.incident}
        return [*words, "-e", json.dumps(extra)]

    def module(self, name: str, hosts: Sequence[str], arguments: Mapping[str, object]) -> list[str]:
        """The command line that runs a module on hosts."""
        return [
            *(_program("ansible"), ",".join(hosts), *self._common()),
            *("-m", name, "-a", json.dumps(arguments), "-e", json.dumps(self.variables)),
        ]

    def _common(self) -> list[str]:
        return [*self.options, *(word for source in self.inventory for word in ("-i", source))]


def setting(known: Mapping[str, Any], incident: str, directory: Path) -> Setting:
    """The setting of the drill of this run. `known`: the variables of a task."""
    own = procedures.inputs_of("drill")
    return Setting(
        inventory=[str(each) for each in known.get("ansible_inventory_sources") or []],
        variables={name: value for name, value in load_extra_vars(DataLoader()).items() if name not in own},
        incident=incident,
        directory=directory,
        options=_vault_options(),
    )


def _vault_options() -> list[str]:
    files = context.CLIARGS.get("vault_password_files") or ()
    ids = [each for each in context.CLIARGS.get("vault_ids") or () if "@prompt" not in each]
    return [f"--vault-password-file={each}" for each in files] + [f"--vault-id={each}" for each in ids]


def _program(name: str) -> str:
    return str(Path(sys.executable).parent / name)


class ProcedureRun:
    """A procedure that runs in a process group of its own."""

    def __init__(
        self,
        setting: Setting,
        procedure: str,
        playbook: str,
        hosts: Sequence[str],
        arguments: Mapping[str, str],
    ) -> None:
        """Start it. Raises OSError."""
        self.started = timestamps.now()
        self._procedure, self._hosts, self._arguments = procedure, list(hosts), dict(arguments)
        self.output = setting.directory / f"{self.started.replace(':', '')}-{procedure}.log"
        with self.output.open("wb") as output:
            self._process = subprocess.Popen(
                setting.command(playbook, hosts, arguments),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def done(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def stop(self) -> None:
        """End it as an interrupted run: it unlocks its host."""
        self._signal(signal.SIGINT)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it at once, as if the control node was lost."""
        self._signal(signal.SIGKILL)
        self._process.wait()

    def action(self) -> Action:
        """The record of the run."""
        status = self._process.poll()
        return Action(
            time=self.started,
            procedure=self._procedure,
            hosts=self._hosts,
            arguments=self._arguments,
            by=BY,
            outcome="unknown" if status is None else "failed" if status else "done",
        )

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)
