"""Tokens exist only where they are needed."""

from __future__ import annotations

from typing import Any

from tests import fleet


def test_no_token_of_a_client_is_on_the_host(host: Any) -> None:
    for path in (fleet.LAB.token, fleet.LAB.admin_token):
        matches = host.run(
            "grep --recursive --files-with-matches --fixed-strings --binary-files=text"
            f" --regexp={fleet.token(path)} /etc /opt/katago-mcp /var /run /root /tmp 2>/dev/null"
        )
        assert matches.stdout == ""


def test_service_can_read_its_hashed_tokens_and_no_other_credential(host: Any) -> None:
    place = "/etc/katago-mcp/credentials"
    paths = [place, f"{place}/operator.token", f"{place}/tokens.json"]
    modes = host.check_output(f"stat --format='%a %U %G' {' '.join(paths)}")
    assert modes.splitlines() == ["710 root katago-mcp", "600 root root", "640 root katago-mcp"]
    host.check_output(f"touch {place}/tls.key.probe && chmod 0600 {place}/tls.key.probe")
    try:
        for command, allowed in (
            (f"cat {place}/tokens.json", True),
            (f"cat {place}/operator.token", False),
            (f"cat {place}/tls.key.probe", False),
            (f"ls {place}", False),
            (f"touch {place}/tokens.json", False),
            (f"touch {place}/new", False),
        ):
            assert (host.run(f"runuser -u katago-mcp -- {command}").rc == 0) is allowed, command
            assert host.run(f"runuser -u nobody -- {command}").rc != 0, command
    finally:
        host.check_output(f"rm {place}/tls.key.probe")
    assert "sha256" in host.check_output(f"cat {place}/tokens.json")


def test_operators_token_is_in_no_other_file(host: Any) -> None:
    token = host.check_output("cat /etc/katago-mcp/credentials/operator.token")
    matches = host.run(
        "grep --recursive --files-with-matches --fixed-strings --binary-files=text"
        f" --regexp={token} /etc /opt/katago-mcp /var /run 2>/dev/null"
    )
    assert matches.stdout.split() == ["/etc/katago-mcp/credentials/operator.token"]
