"""Repositories on a REST server and in an object store: backups, restores, and no leaked secrets."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests import fleet

from .conftest import FIRST, SECOND, Vault, run_unit, state

CONFIG = "readlink --canonicalize /opt/katago-mcp/current/config.json"
REST, S3 = "katago-test-rest.service", "katago-test-s3.service"
# An S3 server for tests, and its dependencies.
S3_SERVER = ("moto[s3]==5.2.5", "flask==3.1.3", "flask-cors==6.0.5")


@dataclass(frozen=True)
class Remote:
    """A repository of the first host, its secrets, and the unit on the second host that serves it."""

    unit: str
    variables: dict[str, Any]
    secrets: tuple[str, ...] = field(repr=False)


def serve_rest(host: Any) -> Remote:
    """Serve restic's REST protocol by rclone."""
    host.check_output("which rclone || apt-get install --yes --quiet=2 --no-install-recommends rclone")
    password = secrets.token_urlsafe(18)
    host.run_expect(
        [0],
        f"mkdir --parents /srv/rest && systemd-run --quiet --collect --unit={REST}"
        f" --setenv=RCLONE_USER=katago --setenv=RCLONE_PASS={password}"
        " rclone serve restic --addr=:8000 /srv/rest",
    )
    repository = f"rest:http://katago:{password}@{SECOND}:8000/katago"
    return Remote(REST, {"backup_repository": repository}, (password,))


def serve_s3(host: Any, directory: Path) -> Remote:
    """Serve an object store by moto."""
    version = host.check_output("python3 -c 'import sys; print(\"%d.%d\" % sys.version_info[:2])'")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pip += ["--only-binary=:all:", "--implementation=cp", f"--python-version={version}"]
    pip += ["--platform=manylinux2014_x86_64", "--platform=manylinux_2_28_x86_64"]
    subprocess.run([*pip, f"--target={directory / 's3'}", *S3_SERVER], check=True)
    packed = subprocess.run(
        ["tar", "--create", "--gzip", f"--directory={directory}", "s3"], stdout=subprocess.PIPE, check=True
    )
    fleet.send(SECOND, packed.stdout, "tar --extract --gzip --directory=/opt")
    host.check_output(
        f"systemd-run --quiet --collect --unit={S3} --setenv=PYTHONPATH=/opt/s3"
        " python3 -m moto.server --host 0.0.0.0 --port 9000"
    )
    access, secret = secrets.token_hex(10), secrets.token_urlsafe(30)
    environment = {"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret}
    repository = f"s3:http://{SECOND}:9000/backups/katago"
    return Remote(S3, {"backup_repository": repository, "backup_environment": environment}, (secret,))


@pytest.fixture(scope="module", params=["rest", "s3"])
def remote(
    request: pytest.FixtureRequest, hosts: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Remote]:
    """A repository server on the second host, for the tests with this parameter."""
    host = hosts[SECOND]
    server = serve_rest(host) if request.param == "rest" else serve_s3(host, tmp_path_factory.mktemp("s3"))
    port = {REST: 8000, S3: 9000}[server.unit]
    fleet.eventually(
        lambda: host.run(f"ss --no-header --listening --tcp 'sport = :{port}' | grep .").rc == 0,
        within=60,
        what=f"{server.unit} listens",
    )
    yield server
    host.check_output(f"systemctl stop {server.unit} || true")


@pytest.fixture(scope="module")
def backed_up(vault: Vault, remote: Remote) -> fleet.Run:
    """A backup of the first host, with the most verbose output."""
    run = vault.play("backup.yml", "-vvv", "--diff", f"--limit={FIRST}", **remote.variables)
    assert run.returncode == 0, run.output[-5000:]
    return run


def test_backup_to_a_remote_repository_is_verified_and_leaks_no_secrets(
    hosts: dict[str, Any], remote: Remote, backed_up: fleet.Run
) -> None:
    host = hosts[FIRST]
    good = state(host)["last_good"]
    assert good == state(host)["last_run"]
    assert f"{good['snapshot']} of {good['release']} is verified" in backed_up.output
    assert good["snapshot"] in host.check_output("katago-backup snapshots")
    for secret in remote.secrets:
        assert secret not in backed_up.output
        found = host.run(
            "grep --recursive --files-with-matches --fixed-strings --binary-files=text"
            f" --regexp={secret} /etc /opt/katago-mcp /var /run /root /tmp 2>/dev/null"
        ).stdout.split()
        assert found
        assert set(found) <= {"/etc/katago-backup/repository", "/etc/katago-backup/environment"}


@pytest.mark.usefixtures("backed_up")
def test_damage_is_repaired_from_a_remote_repository(
    hosts: dict[str, Any], vault: Vault, remote: Remote, flip: Callable[[Any, str, int], None]
) -> None:
    host = hosts[FIRST]
    path = host.check_output(CONFIG)
    whole = host.file(path).sha256sum
    flip(host, path, 77)
    assert host.file(path).sha256sum != whole
    run = vault.play("restore.yml", f"--limit={FIRST}", **remote.variables)
    assert run.returncode == 0, run.output
    assert path in run.output
    assert host.file(path).sha256sum == whole
    assert host.check_output("systemctl is-active katago-mcp.service") == "active"


@pytest.mark.usefixtures("backed_up")
@pytest.mark.parametrize("remote", ["rest"], indirect=True)
def test_wrong_credentials_are_refused_and_replace_nothing(hosts: dict[str, Any], vault: Vault) -> None:
    host = hosts[FIRST]
    before = host.check_output("cat /etc/katago-backup/repository")
    wrong: dict[str, Any] = {"backup_repository": f"rest:http://katago:not-the-password@{SECOND}:8000/katago"}
    refused = vault.play("backup.yml", f"--limit={FIRST}", **wrong)
    assert refused.returncode != 0
    assert "the repository refused this host" in refused.output
    assert "not-the-password" not in refused.output
    assert host.check_output("cat /etc/katago-backup/repository") == before


@pytest.mark.usefixtures("backed_up")
def test_unreachable_server_is_reported_and_the_last_verified_backup_stays(
    hosts: dict[str, Any], remote: Remote
) -> None:
    good = state(hosts[FIRST])["last_good"]
    hosts[SECOND].check_output(f"systemctl stop {remote.unit}")
    status, outcome = run_unit(hosts[FIRST])
    assert status != 0
    assert "the repository cannot be reached" in outcome["message"]
    assert state(hosts[FIRST])["last_good"] == good
