"""A second run changes nothing, check mode predicts that, and the defaults work too."""

from __future__ import annotations

import json
import ssl
import subprocess
import urllib.request
from pathlib import Path

import pytest

from tests import fleet
from tests.hosts import connect


def test_check_mode_predicts_no_change() -> None:
    run = fleet.play("site.yml", "--check", "--diff")
    assert run.returncode == 0, run.output
    assert set(run.changed.values()) == {0}, run.output


def test_second_run_changes_and_downloads_nothing_and_shows_no_token() -> None:
    run = fleet.play("site.yml", "-vvv", "--diff")
    assert run.returncode == 0, run.output
    assert set(run.changed.values()) == {0}, run.output
    assert "Fetching" not in run.output
    assert "Building" not in run.output
    for token in fleet.LAB.tokens():
        assert str(token["token"]) not in run.output


def test_deployment_uses_another_directory_if_that_for_temporary_files_is_full() -> None:
    name = fleet.LAB.hosts()[0].name
    host = connect(name)
    fill = "dd if=/dev/zero of=/tmp/filler bs=4k 2>/dev/null; true"
    host.check_output(f"mount -t tmpfs -o size=1m tmpfs /tmp && ({fill})")
    try:
        run = fleet.play("deploy.yml", f"--limit={name}")
    finally:
        host.check_output("umount --lazy /tmp")
    assert run.returncode == 0, run.output
    warning = f"/tmp on {name} cannot be used for temporary files (No space left on device)"
    # Ansible wraps warnings.
    assert warning in " ".join(run.output.split()), run.output


def test_validation_names_the_release() -> None:
    run = fleet.play("validate.yml")
    assert run.returncode == 0, run.output
    result = run.output.split("\nRESULT ", 1)[1]
    assert [host.name in result for host in fleet.LAB.hosts()] == [True, True], run.output
    assert result.count("works: ") == len(fleet.LAB.hosts()), run.output


@pytest.mark.long
def test_service_with_a_certificate_accepts_only_tls(tmp_path: Path) -> None:
    host = fleet.LAB.hosts()[1]
    limit = f"--limit={host.name}"
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    made += ["-subj", "/CN=go.example.org", "-days", "2", "-out", str(certificate), "-keyout", str(key)]
    subprocess.run(made, check=True, capture_output=True)
    secret = key.read_text()
    variables = {"katago_mcp_tls_certificate": str(certificate), "katago_mcp_tls_key": secret}
    try:
        run = fleet.play("deploy.yml", limit, "--diff", "-vvv", variables=variables)
        assert run.returncode == 0, run.output
        # A single line of the key, because logs change the line ends.
        assert secret.splitlines()[1] not in run.output.split("PLAY [", 1)[1]
        assert fleet.get(host, "/health")[0] == 0
        context = ssl.create_default_context(cafile=str(certificate))
        context.check_hostname = False
        with urllib.request.urlopen(
            f"https://127.0.0.1:{host.ports['mcp']}/health", context=context
        ) as answer:
            assert answer.status == 200
        assert fleet.play("validate.yml", limit).returncode == 0
        report = tmp_path / "triage.json"
        assert fleet.play("triage.yml", limit, variables={"triage_json": str(report)}).returncode == 0
        judged = json.loads(report.read_text())["hosts"][host.name]
        assert judged["facts"]["config"]["value"] == {"ok": True, "problems": []}
        inside = connect(host.name)
        path = "/etc/katago-mcp/credentials/tls.key"
        assert inside.check_output(f"stat --format='%a %U %G' {path}") == "600 root root"
        assert inside.run(f"runuser -u katago-mcp -- cat {path}").rc != 0
    finally:
        back = fleet.play("deploy.yml", limit)
    assert back.returncode == 0, back.output
    assert fleet.get(host, "/health")[0] == 200


def test_service_with_the_defaults_is_reachable_only_from_its_own_host() -> None:
    defaults = {
        "katago_mcp_listen_address": "127.0.0.1",
        "katago_mcp_metrics_listen_address": "127.0.0.1",
        "katago_mcp_allowed_hosts": [],
        "katago_mcp_allowed_clients": ["localhost"],
        "katago_mcp_tokens": [],
    }
    host = fleet.LAB.hosts()[0]
    limit = f"--limit={host.name}"
    try:
        run = fleet.play("deploy.yml", limit, variables=defaults)
        assert run.returncode == 0, run.output
        assert fleet.get(host, "/health")[0] == 0
        run = fleet.play("rollback.yml", limit)
        assert run.returncode == 0, run.output
        assert fleet.get(host, "/health")[0] == 200
    finally:
        back = fleet.play("deploy.yml", limit)
    assert back.returncode == 0, back.output
    assert fleet.get(host, "/mcp", method="POST", headers={"Content-Type": "application/json"})[0] == 401
