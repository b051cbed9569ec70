"""Renders the configuration of keepalived, which moves one address between load balancers. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils import paths

LONGEST_PASSWORD = 8
"""VRRP sends at most 8 characters of a password."""
PRIORITY = 100
"""The same on all load balancers. So the address stays where it is when a failed one works again."""
_AVAILABLE = 50

HEADER = "# The load balancer of the KataGo fleet. Ansible writes this file. Do not edit it.\n"

_TEMPLATE = """\
global_defs {{
  router_id {local_name}
  script_user nobody nogroup
  enable_script_security
  vrrp_version {version}
}}

vrrp_script available {{
  script "{program}"
  interval 2
  timeout 4
  fall 2
  rise 2
  # A weight, not a fault: if no load balancer reaches a server, one of them still has the address, and
  # answers clients with 503.
  weight {weight}
}}

vrrp_instance katago {{
  state BACKUP
  interface {interface}
  virtual_router_id {router_id}
  # The same on all load balancers: the address does not move back, which would cut open streams again.
  priority {priority}
  advert_int 1
  unicast_src_ip {source}
{peers}{authentication}  virtual_ipaddress {{
    {address} dev {interface}
  }}
  track_script {{
    available
  }}
}}
"""


# keepalived runs it every 2 seconds. On a host whose processors are busy, a Python program would start too
# slowly, and the address would move without need.
_CHECK = """\
#!/bin/bash
# Exits with status 0 if HAProxy answers that a server is up. Ansible writes this file.
exec 3<>/dev/tcp/{address}/{port} || exit 1
printf 'GET /available HTTP/1.0\\r\\n\\r\\n' >&3
read -r -t 3 answer <&3
[[ $answer == "HTTP/1."?" 200 "* ]]
"""


@dataclass(frozen=True)
class Instance:
    """A load balancer's part of the virtual address. `address`: with its prefix length."""

    local_name: str
    address: str
    interface: str
    router_id: int
    source: str
    peers: tuple[str, ...]
    password: str = ""


def render(instance: Instance, program: Path = paths.LOAD_BALANCER_CHECK) -> str:
    """The configuration. `program`: what checks HAProxy."""
    is_ipv6 = ipaddress.ip_interface(instance.address).version == 6
    return HEADER + _TEMPLATE.format(
        local_name=instance.local_name,
        version=3 if is_ipv6 else 2,
        program=program,
        weight=_AVAILABLE,
        interface=instance.interface,
        router_id=instance.router_id,
        priority=PRIORITY,
        source=instance.source,
        peers=_block("unicast_peer", instance.peers),
        authentication=_block("authentication", ("auth_type PASS", f"auth_pass {instance.password}"))
        if instance.password
        else "",
        address=instance.address,
    )


def check_script(address: str, port: int) -> str:
    """The program that keepalived runs, for HAProxy's statistics on this address and port."""
    return _CHECK.format(address=address, port=port)


def problems(instance: Instance) -> list[str]:
    """The problems with the variables. Each names the variable, the value and the fix; no password."""
    try:
        address = ipaddress.ip_interface(instance.address)
    except ValueError:
        return [
            f"load_balancer_virtual_address is {instance.address!r}. Give an address with its prefix length,"
            " such as 10.20.0.200/24."
        ]
    found = []
    if "/" not in instance.address:
        found.append(
            f"load_balancer_virtual_address is {instance.address}, without a prefix length. Give that of the"
            " network, such as 10.20.0.200/24."
        )
    for host in (instance.source, *instance.peers):
        try:
            is_same = ipaddress.ip_address(host).version == address.version
        except ValueError:
            is_same = False
        if not is_same:
            found.append(
                f"The load balancer's fleet_address {host} is not an IPv{address.version} address, as"
                " load_balancer_virtual_address is. Set fleet_address of this host in the inventory."
            )
    if not 1 <= instance.router_id <= 255:
        found.append(f"load_balancer_router_id is {instance.router_id}; it must be 1 to 255.")
    if instance.password:
        found += _password_problems(instance.password, address.version)
    return found


def _password_problems(password: str, version: int) -> list[str]:
    if version == 6:
        return ["load_balancer_vrrp_password is set, but VRRP has no password with an IPv6 address."]
    if len(password) > LONGEST_PASSWORD or not password.isalnum() or not password.isascii():
        return [f"load_balancer_vrrp_password must have 1 to {LONGEST_PASSWORD} letters and digits."]
    return []


def _block(name: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    return f"  {name} {{\n" + "".join(f"    {line}\n" for line in lines) + "  }\n"
