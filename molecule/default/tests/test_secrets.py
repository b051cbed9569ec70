"""Tokens are nowhere but with their holders."""

from __future__ import annotations

from typing import Any

from tests import fleet


def test_no_token_of_a_client_is_on_the_host(host: Any) -> None:
    for path in (fleet.LAB.token, fleet.LAB.admin_token):
        found = host.run(
            "grep --recursive --files-with-matches --fixed-strings --binary-files=text"
            f" --regexp={fleet.token(path)} /etc /opt/katago-mcp /var /run /root /tmp 2>/dev/null"
        )
        assert found.stdout == ""


def test_credentials_are_for_root_alone(host: Any) -> None:
    modes = host.check_output(
        "stat --format='%a %U %n' /etc/katago-mcp/credentials{,/*}".replace(
            "{,/*}", " /etc/katago-mcp/credentials/operator.token /etc/katago-mcp/credentials/tokens.json"
        )
    )
    assert [line.split()[:2] for line in modes.splitlines()] == [
        ["700", "root"],
        ["600", "root"],
        ["600", "root"],
    ]


def test_operators_token_is_in_no_other_file(host: Any) -> None:
    token = host.check_output("cat /etc/katago-mcp/credentials/operator.token")
    found = host.run(
        "grep --recursive --files-with-matches --fixed-strings --binary-files=text"
        f" --regexp={token} /etc /opt/katago-mcp /var /run 2>/dev/null"
    )
    assert found.stdout.split() == ["/etc/katago-mcp/credentials/operator.token"]


def test_most_verbose_output_of_a_deployment_has_no_token() -> None:
    run = fleet.play("deploy.yml", "-vvv", "--diff")
    assert run.returncode == 0, run.output
    for token in fleet.LAB.tokens():
        assert str(token["token"]) not in run.output
