"""Deployments that must fail: no release is switched, or the host rolls back and is validated again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import paths, runtime
from tests import bad_releases, fleet
from tests.bad_releases import DEFERRED, NO_ENGINE

FIRST, SECOND = (host.name for host in fleet.LAB.hosts())


def state(host: Any) -> tuple[str, str, list[dict[str, Any]]]:
    """The current release, the service's main process, and the history."""
    history = host.check_output("cat /var/lib/katago-mcp/history.jsonl").splitlines()
    return (
        host.check_output("readlink /opt/katago-mcp/current"),
        host.check_output("systemctl show katago-mcp.service --property=MainPID --value"),
        [json.loads(line) for line in history],
    )


@pytest.fixture
def untouched(hosts: dict[str, Any]) -> Any:
    """Fails if anything was switched, restarted or recorded on any host."""
    before = {name: state(host) for name, host in hosts.items()}
    yield
    assert {name: state(host) for name, host in hosts.items()} == before


@pytest.fixture
def hosts() -> dict[str, Any]:
    """All hosts of the lab, by name."""
    import testinfra

    inventory = str(paths.ROOT / "inventories" / "lab")
    return {
        name: testinfra.get_host(f"ansible://{name}", ansible_inventory=inventory) for name in (FIRST, SECOND)
    }


def long(*values: Any) -> Any:
    """A long case of a parametrized test."""
    return pytest.param(*values, marks=pytest.mark.long)


NETWORK = {"source": "file", "path": "/nowhere/net.bin.gz", "sha256": "ab" * 32}


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"katago_mcp_prot": 8080}, "Did you mean katago_mcp_port?"),
        ({"katago_mcp_listen_address": "192.0.2.1"}, "192.0.2.1 port 8080 cannot be bound"),
        long({"katago_mcp_max_visits": "many"}, "katago_mcp_max_visits"),
        long({"katago_mcp_tokens": []}, "katago_mcp_tokens is empty"),
        long(
            {"katago_mcp_tokens": [{"name": "a", "scopes": ["analyze"], "token": "changeme"}]},
            "katago_mcp_tokens[0].token is a placeholder",
        ),
        long({"katago_mcp_port": 22222, "katago_mcp_metrics_port": 22222}, "are both 22222"),
        long({"katago_network": NETWORK}, "/nowhere/net.bin.gz"),
        long({"katago_network": {**NETWORK, "sha256": "abc"}}, "katago_network.sha256 is 'abc'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_invalid_input_is_refused_before_anything_is_touched(variables: dict[str, Any], message: str) -> None:
    run = fleet.play("deploy.yml", variables=variables)
    assert run.returncode != 0
    assert "nothing was changed" in run.output
    assert message in run.output
    assert set(run.changed.values()) == {0}, run.output


@pytest.mark.long
@pytest.mark.usefixtures("untouched")
def test_network_with_another_checksum_is_refused(tmp_path: Path) -> None:
    network = tmp_path / "net.bin.gz"
    network.write_bytes(b"not the expected content")
    run = fleet.play("deploy.yml", variables={"katago_network": {**NETWORK, "path": str(network)}})
    assert run.returncode != 0
    assert f"not {NETWORK['sha256']}" in run.output
    assert "nothing was changed on this host" in run.output


@pytest.mark.usefixtures("untouched")
def test_server_that_does_not_import_is_not_switched_to(tmp_path: Path) -> None:
    server = bad_releases.that_does_not_import(tmp_path)
    run = fleet.play("deploy.yml", variables={"katago_mcp_server": str(server)})
    assert run.returncode != 0
    assert "no_such_module" in run.output
    assert "No release was switched" in run.output


@pytest.mark.long
@pytest.mark.usefixtures("untouched")
def test_engine_that_does_not_have_the_declared_version_is_refused() -> None:
    engine = yaml.safe_load((paths.ROOT / "inventories/lab/group_vars/katago.yml").read_text())[
        "katago_engine"
    ]
    run = fleet.play("deploy.yml", variables={"katago_engine": {**engine, "version": "1.17.0"}})
    assert run.returncode != 0
    assert "it reports version 1.18.1, but katago_engine.version is 1.17.0" in run.output


@pytest.mark.long
@pytest.mark.usefixtures("untouched")
def test_engine_that_cannot_start_is_found_before_the_switch() -> None:
    run = fleet.play("deploy.yml", variables=NO_ENGINE)
    assert run.returncode != 0
    assert "nnMaxBatchSize" in run.output
    assert "No release was switched" in run.output


def test_host_rolls_back_if_the_engine_does_not_start_after_the_switch(hosts: dict[str, Any]) -> None:
    good, _, history = state(hosts[FIRST])
    second = state(hosts[SECOND])
    run = fleet.play("deploy.yml", variables={**NO_ENGINE, **DEFERRED, "validate_ready_deadline": 20})
    assert run.returncode != 0
    assert "was rejected. This host was rolled back to" in run.output
    assert "which is validated" in run.output
    release, _, now = state(hosts[FIRST])
    assert release == good
    switched, judged, returned, again = now[len(history) :]
    assert switched["previous"] == good.removeprefix("releases/")
    assert (judged["release"], judged["verdict"]) == (switched["release"], "bad")
    assert (returned["release"], returned["previous"]) == (switched["previous"], switched["release"])
    assert (again["release"], again["verdict"]) == (switched["previous"], "good")
    assert hosts[FIRST].check_output("ls /opt/katago-mcp/releases").split().count(switched["release"]) == 1
    assert "Hosts of later batches were not touched." in run.output
    assert state(hosts[SECOND]) == second
    assert fleet.play("validate.yml").returncode == 0


@pytest.mark.long
def test_host_rolls_back_if_the_server_keeps_crashing_after_the_switch(
    hosts: dict[str, Any], tmp_path: Path
) -> None:
    """The crashes use up the unit's starts, which must not prevent the start of the previous release."""
    good = state(hosts[FIRST])[0]
    server = bad_releases.that_crashes(tmp_path)
    run = fleet.play("deploy.yml", f"--limit={FIRST}", variables={"katago_mcp_server": str(server)})
    assert run.returncode != 0
    assert "was rejected. This host was rolled back to" in run.output, run.output
    assert state(hosts[FIRST])[0] == good
    assert fleet.play("validate.yml", f"--limit={FIRST}").returncode == 0


@pytest.mark.long
def test_failure_without_a_rollback_target_stops_the_service(hosts: dict[str, Any]) -> None:
    host = hosts[FIRST]
    history = "/var/lib/katago-mcp/history.jsonl"
    host.check_output(f"cp --preserve {history} /root/history && : > {history}")
    try:
        run = fleet.play(
            "deploy.yml",
            f"--limit={FIRST}",
            variables={**NO_ENGINE, **DEFERRED, "validate_ready_deadline": 10},
        )
        assert run.returncode != 0
        assert "this host could not be rolled back" in run.output
        assert host.run("systemctl is-active katago-mcp.service").stdout.strip() == "inactive"
    finally:
        host.check_output(f"cp --preserve /root/history {history}")
    assert fleet.play("deploy.yml", f"--limit={FIRST}").returncode == 0


@pytest.mark.long
def test_redeployed_earlier_release_is_the_rollback_target(hosts: dict[str, Any]) -> None:
    """After a first release, a second one and the first one again, a failed third rolls back to the first."""
    limit = f"--limit={FIRST}"
    first = state(hosts[FIRST])[0]
    other = fleet.play("deploy.yml", limit, variables={"katago_mcp_max_visits": 970})
    assert other.returncode == 0, other.output
    assert fleet.play("deploy.yml", limit).returncode == 0
    assert state(hosts[FIRST])[0] == first
    run = fleet.play(
        "deploy.yml",
        limit,
        variables={**NO_ENGINE, **DEFERRED, "katago_mcp_max_visits": 980, "validate_ready_deadline": 10},
    )
    assert run.returncode != 0
    assert state(hosts[FIRST])[0] == first


@pytest.mark.long
def test_failed_host_lets_the_others_of_its_batch_finish(hosts: dict[str, Any]) -> None:
    good = state(hosts[FIRST])[0]
    settings = f"{{{{ {{'nnMaxBatchSize': -1}} if inventory_hostname == '{FIRST}' else {{}} }}}}"
    variables = {**DEFERRED, "validate_ready_deadline": 20, "deploy_serial": 2, "katago_mcp_max_visits": 950}
    run = fleet.play("deploy.yml", variables={**variables, "katago_analysis_settings": settings})
    assert run.returncode != 0
    assert "was rejected. This host was rolled back to" in run.output
    assert run.failed == {FIRST: 1, SECOND: 0}
    assert state(hosts[FIRST])[0] == good
    _, _, history = state(hosts[SECOND])
    assert history[-1]["verdict"] == "good"
    assert history[-1]["release"] == state(hosts[SECOND])[0].removeprefix("releases/")
    assert fleet.play("deploy.yml").returncode == 0


@pytest.mark.long
def test_unreachable_host_stops_the_deployment_before_the_first_switch(hosts: dict[str, Any]) -> None:
    before = state(hosts[FIRST])
    runtime.podman("pause", fleet.host_named(SECOND).container)
    try:
        run = fleet.play("deploy.yml", variables={"katago_mcp_max_visits": 960})
    finally:
        runtime.podman("unpause", fleet.host_named(SECOND).container)
    assert run.returncode != 0
    assert "UNREACHABLE" in run.output or "unreachable" in run.output
    assert state(hosts[FIRST]) == before


def test_fault_of_the_host_does_not_reject_a_validated_release(hosts: dict[str, Any]) -> None:
    """A drained service fails the validation of a release that was validated before."""
    before = state(hosts[FIRST])
    target = fleet.host_named(FIRST)
    headers = {"Authorization": f"Bearer {fleet.token(fleet.LAB.admin_token)}"}
    assert fleet.get(target, "/admin/drain", method="POST", headers=headers)[0] == 200
    try:
        run = fleet.play("deploy.yml", f"--limit={FIRST}", variables={"validate_ready_deadline": 3})
        assert run.returncode != 0
        assert "was validated here before, so the host is at fault" in run.output
        assert state(hosts[FIRST]) == before
    finally:
        assert fleet.get(target, "/admin/undrain", method="POST", headers=headers)[0] == 200
    assert fleet.play("validate.yml", f"--limit={FIRST}").returncode == 0


FAKE = """
import http.server, threading
class Answer(http.server.BaseHTTPRequestHandler):
    def answer(self):
        body = b'{"ready": true, "status": "ok", "jsonrpc": "2.0", "id": 1, "result": {}}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_GET = do_POST = do_DELETE = answer
    def log_message(self, *arguments):
        pass
servers = [http.server.ThreadingHTTPServer(("0.0.0.0", port), Answer) for port in (8080, 9090)]
threading.Thread(target=servers[0].serve_forever, daemon=True).start()
servers[1].serve_forever()
"""


def test_server_that_answers_200_to_everything_fails_the_validation(hosts: dict[str, Any]) -> None:
    host = hosts[FIRST]
    host.check_output("systemctl stop katago-mcp.service")
    host.check_output(f"cat > /run/fake.py <<'END'\n{FAKE}\nEND")
    host.check_output("systemd-run --unit=fake --collect python3 /run/fake.py")
    try:
        fleet.eventually(
            lambda: fleet.get(fleet.host_named(FIRST), "/ready")[0] == 200,
            within=60,
            what="the fake responds with 200",
        )
        run = fleet.play("validate.yml", f"--limit={FIRST}", variables={"validate_call_deadline": 10})
        assert run.returncode != 0
        assert "The service does not work" in run.output
        assert "- release: runs None" in run.output
    finally:
        host.check_output("systemctl stop fake.service; systemctl start katago-mcp.service")
    assert fleet.play("validate.yml", f"--limit={FIRST}").returncode == 0


@pytest.mark.parametrize("damage", [long("echo '{' > {}/config.json"), long("rm {}/manifest.json"), "rm {}"])
def test_deploying_again_repairs_the_release_that_runs(hosts: dict[str, Any], damage: str) -> None:
    """The service holds its ports, although its files do not say so any more."""
    host, current = hosts[FIRST], "/opt/katago-mcp/current"
    release = state(hosts[FIRST])[0]
    host.check_output(damage.replace("{}", current))
    assert host.run(f"test -s {current}/manifest.json && grep -q server {current}/config.json").rc != 0
    assert fleet.get(fleet.host_named(FIRST), "/ready")[0] == 200
    run = fleet.play("deploy.yml", f"--limit={FIRST}")
    assert run.returncode == 0, run.output
    assert state(hosts[FIRST])[0] == release
    assert fleet.play("validate.yml", f"--limit={FIRST}").returncode == 0


@pytest.mark.long
def test_port_of_another_process_is_refused_by_name(hosts: dict[str, Any]) -> None:
    host = hosts[FIRST]
    before = state(host)
    listen = "import socket, time; server = socket.create_server(('0.0.0.0', 8081)); time.sleep(600)"
    host.check_output(f'systemd-run --unit=intruder --collect python3 -c "{listen}"')
    try:
        fleet.eventually(
            lambda: host.run("ss --listening --tcp --numeric | grep -q 8081").rc == 0,
            within=60,
            what="the other process listens",
        )
        run = fleet.play("deploy.yml", f"--limit={FIRST}", variables={"katago_mcp_port": 8081})
        assert run.returncode != 0
        assert "port 8081 cannot be bound on the host: Address already in use by python3" in run.output
        assert "of intruder.service" in run.output
        assert state(host) == before
    finally:
        host.check_output("systemctl stop intruder.service")


@pytest.mark.long
def test_deploying_again_repairs_damage_on_the_host(hosts: dict[str, Any]) -> None:
    host = hosts[FIRST]
    listed = host.check_output(
        "ls /opt/katago/networks/*/* /opt/katago/engines/*/usr/bin/katago /opt/katago/tuning/*/tuning.txt"
        " /opt/katago-mcp/current/analysis.cfg"
    )
    intact = {path: host.file(path).sha256sum for path in listed.splitlines()}
    assert len(intact) == 4
    for path in intact:
        host.check_output(
            f"cp --preserve {path} {path}.new && printf x >> {path}.new && mv {path}.new {path}"
        )
        assert host.file(path).sha256sum != intact[path]
    run = fleet.play("deploy.yml", f"--limit={FIRST}")
    assert run.returncode == 0, run.output
    assert {path: host.file(path).sha256sum for path in intact} == intact
    again = fleet.play("deploy.yml", f"--limit={FIRST}")
    assert set(again.changed.values()) == {0}, again.output
