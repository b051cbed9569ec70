"""Changes of the network and of the clock: a firewall table of its own, and a clock that is wrong."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ansible_collections.katago.fleet.plugins.module_utils.common import endings
from ansible_collections.katago.fleet.plugins.module_utils.drill.host import Host
from ansible_collections.katago.fleet.plugins.module_utils.drill.step import Step

TABLE = "katago_drill"
# The clock of a host drifts less than this during a drill.
_TOLERANCE_SECONDS = 2.0


def ruleset(ports: Collection[int] | None, ssh: Collection[int]) -> str:
    """The table for nft, which replaces an earlier one in one transaction.

    Drops traffic of other hosts to `ports`, also on open connections; all traffic if `ports` is None. The
    ports `ssh` stay open, and so do the protocols without which they would not work for long: the discovery
    of neighbours in IPv6, and DHCP. The host itself keeps access. The table comes before that of security
    mode, which keeps its effect.
    """
    open_ = ", ".join(map(str, sorted(ssh)))
    # 58 is ICMPv6; minimal hosts have no names of protocols.
    kept = "meta l4proto 58 accept\n\t\tudp dport { 67, 68, 546, 547 } accept"
    blocked = "" if ports is None else f"{{ {', '.join(map(str, sorted(ports)))} }} "
    dropped = "drop" if ports is None else f"tcp dport {blocked}drop"
    answers = "drop" if ports is None else f"tcp sport {blocked}drop"
    return f"""\
table inet {TABLE}
delete table inet {TABLE}
table inet {TABLE} {{
	chain input {{
		type filter hook input priority -20; policy accept;
		iifname "lo" accept
		tcp dport {{ {open_} }} accept
		{kept}
		{dropped}
	}}

	chain output {{
		type filter hook output priority -20; policy accept;
		oifname "lo" accept
		tcp sport {{ {open_} }} accept
		{kept}
		{answers}
	}}
}}
"""


def has_table(host: Host) -> bool:
    """Whether the firewall has the table of drills. Raises OSError if nft cannot tell."""
    status, output = host.run(host.places.nft, "list", "table", "inet", TABLE)
    if status not in (0, 1):
        raise OSError(f"{host.places.nft} failed: {endings.describe(output, status=status)}")
    return status == 0


@dataclass(frozen=True)
class Table(Step):
    """A firewall table that drops traffic. `rules`: for nft."""

    rules: str

    def apply(self, host: Host) -> None:
        """Load the table in one transaction."""
        host.require(host.places.nft, "-f", "-", stdin=self.rules)

    def undo(self, host: Host) -> None:
        """Delete the table."""
        if self.remains(host):
            host.require(host.places.nft, "delete", "table", "inet", TABLE)

    def remains(self, host: Host) -> str:
        """The table exists."""
        return f"the table {TABLE} drops traffic" if has_table(host) else ""


@dataclass(frozen=True)
class Clock(Step):
    """A clock that is `seconds` ahead, or behind if negative.

    `time` and `uptime`: the clock before, and the seconds since the boot `boot` at the same moment. That
    one no change of the clock moves, so the undo computes the time from it.
    """

    seconds: int
    boot: str
    uptime: float
    time: float

    def apply(self, host: Host) -> None:
        """Set the clock."""
        host.set_time(self._true(host) + self.seconds)

    def undo(self, host: Host) -> None:
        """Set the clock by the time that has passed."""
        if self.remains(host):
            host.set_time(self._true(host))

    def remains(self, host: Host) -> str:
        """The clock is wrong by about what the fault moved it. After a reboot, nobody knows."""
        if host.boot()[0] != self.boot:
            return ""
        wrong = host.time() - self._true(host)
        if abs(wrong - self.seconds) > max(_TOLERANCE_SECONDS, abs(self.seconds) / 2):
            return ""
        return f"the clock is wrong by {wrong:+.0f} s"

    def _true(self, host: Host) -> float:
        return self.time + host.boot()[1] - self.uptime
