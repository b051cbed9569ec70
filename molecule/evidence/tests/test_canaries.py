"""Secrets planted on a real host leak nowhere: not into evidence, timeline, or the most verbose output."""

from __future__ import annotations

import base64
import contextlib
import html
import json
import re
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.evidence import runner
from tests import fleet, hosts

TARGET = fleet.LAB.hosts()[0].name
INCIDENT = "canaries"
CREDENTIALS, BACKUP = "/etc/katago-mcp/credentials", "/etc/katago-backup"
TIMEKEEPER = "/etc/katago-incident"
# Each has characters that the encodings represent differently.
CANARIES = [f"canary{number:02}-Zq8+/x%{'abcdefgh'[number % 8] * 6}{number:02}=" for number in range(50)]
# Secrets that the host knows. They must be redacted everywhere, in every encoding.
IN_FILES, IN_UNIT, IN_PROCESS = CANARIES[:6], CANARIES[6:10], CANARIES[10:16]
IN_CONFIG, IN_SINKS, IN_JOURNAL = CANARIES[16:20], CANARIES[20:24], CANARIES[24:]
HOOK = f"https://chat.go.net/hooks/{urllib.parse.quote(IN_SINKS[0], safe='')}"
SLACK = f"https://hooks.slack.com/services/T0/B0/{urllib.parse.quote(IN_SINKS[1], safe='')}"
# Secrets that only their variables' names mark. Such plain words cannot be redacted everywhere.
SHORT = {
    "DB_PASS": "sunnyshine",
    "REDIS_AUTH": "correcthorse",
    "MYSQL_PWD": "73519286",
    "APP_KEY": "/zq/path",
}
FORMS = (
    "Authorization: Bearer {}",
    '{{"level": "info", "password": "{}"}}',
    "GET /mcp?access_token={}&x=1 HTTP/1.1",
    "run --client-secret {} --port 1",
    "SMTP_PASSWORD={}",
    "api_key: {}",
    "curl -u admin:{} http://x",
)


# Logs lines as if the service had written them. journald assigns lines to a unit by the control group, which
# it does not see in a container.
LOG = f"""
import socket
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
    for line in open("/run/canary-said", newline="\\n"):
        fields = ["MESSAGE=" + line.rstrip("\\n"), "SYSLOG_IDENTIFIER=canary", "PRIORITY=4"]
        fields += ["OBJECT_SYSTEMD_UNIT={hosts.SERVICE}", ""]
        journal.sendto("\\n".join(fields).encode(), "/run/systemd/journal/socket")
"""


@pytest.fixture(scope="module")
def connected() -> Any:
    return hosts.connect(TARGET)


@pytest.fixture
def host(connected: Any) -> Any:
    """The host with an empty journal: the host no longer knows the secrets that earlier tests logged."""
    connected.check_output("journalctl --rotate --vacuum-size=1")
    return connected


def put(host: Any, path: str, content: str) -> None:
    encoded = base64.b64encode(content.encode()).decode()
    host.check_output(f"mkdir -p $(dirname {path}) && echo {encoded} | base64 --decode > {path}")


@contextlib.contextmanager
def files(host: Any) -> Iterator[None]:
    """Plant secrets in the files where hosts store them. Fails if a backup is already set up there."""
    planted = {
        f"{CREDENTIALS}/canary.token": f"{IN_FILES[0]}\n",
        f"{CREDENTIALS}/canary.json": json.dumps({"tokens": [{"name": "a", "token": IN_FILES[1]}]}),
        f"{CREDENTIALS}/canary.env": f"A={IN_FILES[2]}\n",
        f"{BACKUP}/password": f"{IN_FILES[3]}\n",
        f"{BACKUP}/environment": f"AWS_SECRET_ACCESS_KEY={IN_FILES[4]}\n",
        f"{BACKUP}/ssh_key": f"-----BEGIN PRIVATE KEY-----\n{IN_FILES[5]}\n-----END PRIVATE KEY-----\n",
        f"{TIMEKEEPER}/sinks.json": json.dumps(
            [
                {
                    "group": "team",
                    "audience": "team",
                    "sinks": [
                        {"name": "a", "kind": "slack", "url": HOOK},
                        {"name": "b", "kind": "webhook", "url": SLACK, "headers": {"X-Key": IN_SINKS[2]}},
                        {"name": "c", "kind": "smtp", "host": "go.net", "password": IN_SINKS[3]},
                    ],
                }
            ]
        ),
    }
    assert not host.file(BACKUP).exists
    assert not host.file(TIMEKEEPER).exists
    for path, content in planted.items():
        put(host, path, content)
    try:
        yield
    finally:
        host.check_output(f"rm -r {CREDENTIALS}/canary.* {BACKUP} {TIMEKEEPER}")


@contextlib.contextmanager
def configuration(host: Any) -> Iterator[None]:
    """Plant secrets in the configuration, after the service has read it."""
    path = host.check_output("readlink --canonicalize /etc/katago-mcp/config.json")
    config = json.loads(host.check_output(f"cat {path}"))
    config["site"] = {
        "apiKey": IN_CONFIG[0],
        "db": {"password": IN_CONFIG[1]},
        "tokens": [IN_CONFIG[2]],
        "url": f"https://me:{urllib.parse.quote(IN_CONFIG[3], safe='')}@db/x",
    }
    put(host, "/run/canary-config.json", json.dumps(config, indent=1))
    host.check_output(f"mount --bind /run/canary-config.json {path}")
    try:
        yield
    finally:
        host.check_output(f"umount --lazy {path} && rm /run/canary-config.json")


@contextlib.contextmanager
def process(host: Any) -> Iterator[int]:
    """Run a process in the unit's control group, with secrets in arguments, environment and log lines."""
    said = [form.format(canary) for form, canary in zip(FORMS * 5, IN_JOURNAL, strict=False)]
    said += [f"POST {address} said no" for address in (HOOK, SLACK)]
    for canary in (*IN_FILES, *IN_UNIT, *IN_PROCESS, *IN_SINKS[2:]):
        said += [
            f"bare {canary} and {urllib.parse.quote(canary, safe='')}",
            f"{html.escape(canary)} {half_encoded(canary)}",
            f"{base64.b64encode(f'user:{canary}'.encode()).decode()} {json.dumps(json.dumps([canary]))}",
        ]
    # journalctl prints a text with such a character as numbers.
    said.append(f"\x1b[1m colour {IN_FILES[0]}\x01")
    put(host, "/run/canary-said", "\n".join(said) + "\n")
    put(host, "/run/canary-log.py", LOG)
    group = host.check_output(f"systemctl show {hosts.SERVICE} --property=ControlGroup --value")
    script = (
        "for tree in '' /systemd /unified; do"
        f" tasks=/sys/fs/cgroup$tree{group}/cgroup.procs; [ ! -e $tasks ] || echo $$ > $tasks; done\n"
        "python3 /run/canary-log.py\n"
        f"export A_TOKEN='{IN_PROCESS[0]}' DB_PWD='{IN_PROCESS[1]}' STRIPE_KEY='{IN_PROCESS[2]}'\n"
        f"exec python3 -c 'import time; time.sleep(600)' --token '{IN_PROCESS[3]}'"
        f" --db-password='{IN_PROCESS[4]}' -u 'me:{IN_PROCESS[5]}'\n"
    )
    put(host, "/run/canary.sh", script)
    pid = int(host.check_output("setsid sh /run/canary.sh > /dev/null 2>&1 < /dev/null & echo $!"))
    try:
        fleet.eventually(
            lambda: IN_PROCESS[3] in host.run(f"cat /proc/{pid}/cmdline").stdout,
            within=20,
            what="the process runs with its secrets",
        )
        yield pid
    finally:
        host.run(f"kill -KILL {pid}")
        host.check_output("rm /run/canary.sh /run/canary-log.py /run/canary-said")


def half_encoded(canary: str) -> str:
    """URL-encode a canary, except lower-case letters and digits."""
    return re.sub(r"[^a-z0-9]", lambda match: f"%{ord(match[0]):02x}", canary)


def forms(canary: str) -> set[bytes]:
    """A canary in all encodings, and its middle part, in case its ends were cut off."""
    once, quoted = json.dumps(canary)[1:-1], urllib.parse.quote(canary, safe="")
    plain = {
        *(canary, once, json.dumps(once)[1:-1], once.replace("/", "\\/"), canary[8:-4]),
        *(
            quoted,
            re.sub(r"%..", lambda match: match[0].lower(), quoted),
            urllib.parse.quote(canary),
            urllib.parse.quote(quoted, safe=""),
        ),
        *(
            html.escape(canary),
            half_encoded(canary),
            canary.replace("/", "&#x2F;"),
            canary.replace("/", "\\u002f"),
        ),
        re.sub(r"\W", lambda match: f"\\x{ord(match[0]):02x}", canary),
    }
    # In base64 at every offset, without the characters at both ends, which depend on the surrounding text.
    encoded = {base64.b64encode(b"x" * before + canary.encode())[4:-4] for before in range(3)}
    safe = {each.replace(b"+", b"-").replace(b"/", b"_") for each in encoded}
    return {each.encode() for each in plain} | encoded | safe


@contextlib.contextmanager
def unit(host: Any, *settings: str) -> Iterator[None]:
    """Plant secrets in the unit and in its environment file. `settings`: further directives of the unit.

    The environment file also has the secrets of the process, so that the host still knows them after the
    process was stopped together with the service.
    """
    # A percent sign starts a systemd specifier.
    token, secret = (canary.replace("%", "%%") for canary in IN_UNIT[:2])
    drop_in = (
        f'Environment="SITE_TOKEN={token}" "SITE_SECRET={secret}"',
        f"Environment={' '.join(f'{name}={word}' for name, word in SHORT.items())}",
        "EnvironmentFile=-/run/canary-environment",
        *settings,
    )
    given = {"WEBHOOK_TOKEN": IN_UNIT[2], "export_KEY": f"'{IN_UNIT[3]}'"}
    given |= {f"GIVEN_{number}_TOKEN": canary for number, canary in enumerate(IN_PROCESS)}
    put(host, "/run/canary-environment", "".join(f"{name}={value}\n" for name, value in given.items()))
    with hosts.drop_in(host, *drop_in):
        assert "SITE_TOKEN" in host.check_output(f"systemctl show {hosts.SERVICE} --property=Environment")
        yield
    host.check_output("rm /run/canary-environment")


@contextlib.contextmanager
def planted(host: Any) -> Iterator[None]:
    """Plant all secrets, and check that they are in place."""
    with files(host), unit(host), configuration(host), logged(host):
        yield


@contextlib.contextmanager
def logged(host: Any) -> Iterator[None]:
    """Run a process with secrets next to the service. Checks that the service's journal has its lines."""
    with process(host) as pid:
        journal = host.check_output(
            f"journalctl --unit={hosts.SERVICE} --identifier=canary --output=cat --all"
        )
        assert IN_JOURNAL[0] in journal
        assert IN_PROCESS[0] in host.check_output(f"cat /proc/{pid}/environ")
        yield


def leaks(written: dict[str, bytes]) -> dict[str, list[str]]:
    """The files that contain a canary in any encoding, by canary."""
    found = {
        canary: [name for name, content in written.items() if any(form in content for form in forms(canary))]
        for canary in CANARIES
    }
    found |= {
        word: [name for name, content in written.items() if word.encode() in content]
        for word in SHORT.values()
    }
    return {canary: where for canary, where in found.items() if where}


def kept(directory: Path) -> dict[str, bytes]:
    """The content of every file in a directory, by path."""
    found = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in found}


@pytest.mark.parametrize(
    ("playbook", "given"),
    [
        ("backup.yml", {"backup_repository": f"rest:https://me:{CANARIES[0]}@vault/x", "backup_password": 7}),
        ("backup.yml", {"backup_repository": "/srv/x", "backup_password": [CANARIES[0]]}),
        (
            "deploy.yml",
            {"katago_mcp_tokens": [{"name": "a", "token": CANARIES[0], "scopes": ["everything"]}]},
        ),
        ("deploy.yml", {"katago_mcp_tls_certificate": "/nowhere", "katago_mcp_tls_key": CANARIES[0]}),
        (
            "incident_open.yml",
            {"incident_channels": [{"kind": "slack", "url": f"http://{CANARIES[0]}"}]},
        ),
        ("incident_open.yml", {"incident_roster": {"contacts": CANARIES[0]}}),
    ],
    ids=["repository", "password", "tokens", "key", "sinks", "roster"],
)
def test_no_canary_is_in_the_refusal_of_an_argument(
    playbook: str, given: dict[str, Any], tmp_path: Path
) -> None:
    variables = tmp_path / "vault.json"
    variables.write_text(json.dumps({"katago_records_dir": str(tmp_path / "records"), **given}))
    run = fleet.play(playbook, f"--limit={TARGET}", "-vvv", "--check", "--diff", f"--extra-vars=@{variables}")
    assert run.returncode != 0, run.output[-3000:]
    assert leaks({"output": run.output.encode(), **kept(tmp_path / "records")}) == {}


@pytest.mark.parametrize("playbook", ["restart.yml", "security_on.yml", "incident_open.yml", "watch.yml"])
def test_no_canary_is_in_the_refusal_of_words_without_a_variable(playbook: str, tmp_path: Path) -> None:
    """A passphrase of several words without inner quotes, which Ansible splits at the spaces."""
    phrase = " ".join(canary.rstrip("=") for canary in CANARIES[:3])
    records = f"--extra-vars=katago_records_dir={tmp_path / 'records'}"
    run = fleet.play(
        playbook, f"--limit={TARGET}", "-vvv", "--check", records, f"--extra-vars=vault_x={phrase}"
    )
    assert run.returncode != 0, run.output[-3000:]
    assert leaks({"output": run.output.encode(), **kept(tmp_path / "records")}) == {}


def test_no_canary_leaves_the_host(host: Any, tmp_path: Path) -> None:
    site = {
        "incident": INCIDENT,
        "katago_records_dir": str(tmp_path / "records"),
        "evidence_key": str(tmp_path / "key.pem"),
    }
    with planted(host):
        run = fleet.play("evidence.yml", f"--limit={TARGET}", "-vvv", variables=site)
    assert run.returncode == 0, run.output[-3000:]
    (directory,) = (tmp_path / "records" / "evidence" / INCIDENT / TARGET).iterdir()
    written = {**kept(tmp_path / "records"), "output": run.output.encode()}
    # The output contains the packed items that the host sent.
    for number, packed in enumerate(
        re.findall(r'"content": "([A-Za-z0-9+/=]+)"', run.output.replace("\\", ""))
    ):
        written[f"packed-{number}"] = runner.unpack(packed, 1 << 26)
    assert leaks(written) == {}
    manifest = [json.loads(line)["entry"] for line in (directory / "manifest.jsonl").read_text().splitlines()]
    counts = {entry["name"]: entry["redacted"] for entry in manifest if entry.get("redacted")}
    expected = (
        "config.json",
        "journal.jsonl",
        "unit-files.txt",
        "unit-processes.jsonl",
        "unit-properties.txt",
    )
    assert set(expected) <= counts.keys()
    assert sum(counts.values()) >= len(CANARIES)
    # The text around the secrets is unchanged.
    assert "GET /mcp?access_token=[redacted]&x=1 HTTP/1.1" in (directory / "journal.jsonl").read_text()
    assert '"maxVisits"' in (directory / "config.json").read_text()
    assert "[redacted:canary.token]" in (directory / "journal.jsonl").read_text()


def test_no_canary_is_in_reports_about_the_host(host: Any, tmp_path: Path) -> None:
    """Runs an incident from triage to review: output, messages, timeline and documents."""
    message = {"name": "letters", "kind": "file", "path": str(tmp_path / "records" / "letters.jsonl")}
    page = {"name": "page", "kind": "page", "path": str(tmp_path / "records" / "index.html")}
    site = {
        "incident": INCIDENT,
        "katago_records_dir": str(tmp_path / "records"),
        "evidence_key": str(tmp_path / "key.pem"),
        "incident_reminder_host": "",
        "incident_channels": [
            {"group": "team", "audience": "team", "channels": [message]},
            {"group": "public", "audience": "public", "channels": [page]},
        ],
    }
    close = {"resolution": "the load is gone", "without_watch": True}
    steps: list[tuple[str, dict[str, Any]]] = [
        ("triage.yml", {}),
        (
            "incident_open.yml",
            {"lead": "Anna", "severity": "P2", "impact": "some", "summary": "slow"},
        ),
        ("validate.yml", {}),
        ("watch.yml", {"minutes": 1, "watch_bounds": [1, 120], "watch_interval": 10}),
        ("security_on.yml", {"why": "a stranger in the log"}),
        ("security_off.yml", {"why": "it was one of us"}),
        ("incident_update.yml", {"status": "identified", "next_steps": "watch", "eta": "soon"}),
        ("incident_close.yml", close),
        ("review.yml", {}),
    ]
    written: dict[str, bytes] = {}
    with planted(host):
        for number, (playbook, given) in enumerate(steps):
            limit = f"--limit={TARGET}"
            run = fleet.play(playbook, limit, "-vvv", "--diff", variables={**site, **given})
            written[f"output {number} of {playbook}"] = run.output.encode()
    written |= kept(tmp_path / "records")
    assert {"letters.jsonl", "index.html", f"incidents/{INCIDENT}/timeline.jsonl"} <= written.keys()
    assert any(name.endswith("review.html") for name in written)
    assert leaks(written) == {}


@dataclass(frozen=True)
class Site:
    """A control node with its own records."""

    directory: Path

    @property
    def records(self) -> Path:
        return self.directory / "records"

    def play(self, playbook: str, **given: Any) -> tuple[str, fleet.Run]:
        """Run a playbook with the most verbose output, with the secrets in a file of variables."""
        number = len(list(self.directory.glob("*.json")))
        variables = self.directory / f"{number}.json"
        site = {
            "incident": INCIDENT,
            "katago_records_dir": str(self.records),
            "evidence_key": str(self.directory / "key.pem"),
        }
        variables.write_text(json.dumps({**site, **given}))
        run = fleet.play(playbook, f"--limit={TARGET}", "-vvv", "--diff", f"--extra-vars=@{variables}")
        return f"output {number} of {playbook}", run


@pytest.fixture
def open_site(tmp_path: Path) -> Site:
    """A site with an open incident, so that its timeline has every task."""
    site = Site(tmp_path)
    opened = {"lead": "Anna", "severity": "P2", "impact": "some", "summary": "slow"}
    message = {"name": "letters", "kind": "file", "path": str(site.records / "letters.jsonl")}
    channels = [{"group": "team", "audience": "team", "channels": [message]}]
    _, run = site.play("incident_open.yml", **opened, incident_reminder_host="", incident_channels=channels)
    assert run.returncode == 0, run.output[-3000:]
    return site


@pytest.fixture
def vault(host: Any) -> Iterator[dict[str, Any]]:
    """Variables of a backup with the secrets that are planted on the host. Removes the backup afterwards."""
    key = f"-----BEGIN PRIVATE KEY-----\n{IN_FILES[5]}\n-----END PRIVATE KEY-----\n"
    yield {
        "backup_repository": "/srv/canaries",
        "backup_password": IN_FILES[3],
        "backup_environment": {"AWS_SECRET_ACCESS_KEY": IN_FILES[4]},
        "backup_ssh_private_key": key,
        "backup_assets": False,
        "backup_validate_engine": False,
    }
    files_of_backup = f"/etc/systemd/system/katago-backup.* /var/lib/katago-backup /srv/canaries {BACKUP}"
    host.run(f"systemctl disable --now katago-backup.timer; rm -rf {files_of_backup}")
    host.check_output("systemctl daemon-reload")


def test_running_configuration_is_collected_next_to_the_one_on_disk(host: Any, tmp_path: Path) -> None:
    """A run was killed between switch and restart, and the running configuration has other secrets."""
    running = hosts.current(host)
    releases = "/opt/katago-mcp/releases"
    config = json.loads(host.check_output("cat /etc/katago-mcp/config.json"))
    limits = {**config["katago"], "maxVisits": config["katago"]["maxVisits"] - 10}
    host.check_output(
        f"mkdir {releases}/canary && find {releases}/{running} -maxdepth 1 -type f"
        f" -exec cp --preserve {{}} {releases}/canary/ ';'"
    )
    put(host, f"{releases}/canary/config.json", json.dumps({**config, "katago": limits}))
    put(host, "/run/canary-said", "".join(f"bare {canary}\n" for canary in IN_CONFIG[:3]))
    put(host, "/run/canary-log.py", LOG)
    site = Site(tmp_path)
    with configuration(host):
        host.check_output("python3 /run/canary-log.py && rm /run/canary-log.py /run/canary-said")
        host.check_output(f"ln -sfn releases/canary {releases}/../current")
        try:
            name, run = site.play("evidence.yml")
        finally:
            host.check_output(f"ln -sfn releases/{running} {releases}/../current && rm -r {releases}/canary")
    assert run.returncode == 0, run.output[-3000:]
    (directory,) = (site.records / "evidence" / INCIDENT / TARGET).iterdir()
    next_one, this_one = (
        json.loads((directory / name).read_text()) for name in ("config.json", "config-running.json")
    )
    assert this_one.pop("site") == {
        "apiKey": "[redacted:config.json]",
        "db": {"password": "[redacted:config.json]"},
        "tokens": ["[redacted:config.json]"],
        "url": "https://me:[redacted]@db/x",
    }
    assert this_one == config
    assert next_one == {**config, "katago": limits}
    assert "bare [redacted:config.json]" in (directory / "journal.jsonl").read_text()
    assert leaks({**kept(site.records), name: run.output.encode()}) == {}


def test_only_secret_free_items_are_kept_if_secrets_cannot_be_read(host: Any, tmp_path: Path) -> None:
    """A file of secrets that is too large cannot be used for the redaction."""
    site = {
        "incident": INCIDENT,
        "katago_records_dir": str(tmp_path / "records"),
        "evidence_key": str(tmp_path / "key.pem"),
    }
    host.check_output(f"head -c 2000000 /dev/zero > {CREDENTIALS}/canary.big")
    try:
        run = fleet.play("evidence.yml", f"--limit={TARGET}", variables=site)
    finally:
        host.check_output(f"rm {CREDENTIALS}/canary.big")
    assert run.returncode == 0, run.output
    (directory,) = (tmp_path / "records" / "evidence" / INCIDENT / TARGET).iterdir()
    there = {path.name for path in directory.iterdir()}
    assert {"memory.txt", "limits.txt", "control-group.txt"} <= there
    assert "journal.jsonl" not in there
    assert "canary.big has more than" in run.output


def test_no_canary_is_printed_by_procedures_that_change_the_host(
    host: Any, open_site: Site, vault: dict[str, Any]
) -> None:
    """Some of them restart the service, so its configuration has no secrets: it would refuse to start."""
    mitigation = {"visits": 100, "minutes": 5, "why": "the queue is long"}
    token = {"name": "canary", "scopes": ["analyze"], "token": IN_FILES[1]}
    damage = "echo >> /opt/katago-mcp/current/analysis.cfg"
    steps: list[tuple[str, dict[str, Any]]] = [
        ("restart.yml", {}),
        ("mitigate.yml", mitigation),
        ("mitigate_undo.yml", {}),
        ("purge_cache.yml", {}),
        ("deploy.yml", {"katago_mcp_max_visits": 990, "katago_mcp_tokens": [*fleet.LAB.tokens(), token]}),
        ("backup.yml", vault),
        ("restore.yml", vault),
        ("rollback.yml", {}),
        ("deploy.yml", {}),
    ]
    written: dict[str, bytes] = {}
    with files(host), unit(host):
        for playbook, given in steps:
            if playbook == "restore.yml":
                host.check_output(damage)
            with logged(host):
                name, run = open_site.play(playbook, **given)
            assert run.returncode == 0, (name, run.output[-5000:])
            written[name] = run.output.encode()
    assert_no_leaks(open_site, written)
    assert len(list(open_site.records.glob(f"evidence/{INCIDENT}/{TARGET}/*/manifest.jsonl"))) >= 6


def test_no_canary_is_printed_by_procedures_that_fail(
    host: Any, open_site: Site, vault: dict[str, Any]
) -> None:
    """If a service does not start, its last log lines are printed; here they contain secrets."""
    canaries = (*IN_FILES[:3], *IN_UNIT, *IN_PROCESS[:3], *IN_CONFIG[:2], IN_SINKS[2])
    log = [
        *(f"LAST LOG LINE {canary} {half_encoded(canary)}" for canary in canaries[:4]),
        json.dumps({"level": "critical", "event": "LAST EVENT", "tried": list(canaries[4:8])}),
        *(f"opened with {canary} {base64.b64encode(canary.encode()).decode()}" for canary in canaries[8:]),
    ]
    anyway = {"without_start_check": True, "allow_changed_files": True}
    fails = 'ExecStartPre=+/bin/sh -c "cat /run/canary-log; exit 1"'
    steps: list[tuple[str, dict[str, Any]]] = [
        ("backup.yml", {**vault, "backup_repository": "/proc/canaries"}),
        ("restart.yml", anyway),
        ("mitigate.yml", {"visits": 100, "minutes": 5, "why": "the queue is long"}),
        ("purge_cache.yml", {}),
        ("deploy.yml", {"katago_mcp_max_visits": 991}),
        ("rollback.yml", {}),
        ("restore.yml", {**vault, "backup_password": IN_FILES[2]}),
        ("restart.yml", {"force": True, **anyway}),
    ]
    written: dict[str, bytes] = {}
    put(host, "/run/canary-log", "\n".join(log) + "\n")
    with files(host), unit(host, fails), configuration(host):
        for playbook, given in steps:
            with logged(host):
                name, run = open_site.play(playbook, **given)
            assert run.returncode != 0, (name, run.output[-5000:])
            written[name] = run.output.encode()
    host.check_output("rm /run/canary-log")
    restarts = [content for name, content in written.items() if name.endswith("restart.yml")]
    for content in restarts:
        assert b"Its last log lines" in content
        assert b"LAST LOG LINE [redacted" in content
        assert b"LAST EVENT" in content
    assert_no_leaks(open_site, written)
    _, run = open_site.play("deploy.yml")
    assert run.returncode == 0, run.output[-3000:]


def assert_no_leaks(site: Site, written: dict[str, bytes]) -> None:
    """No canary is in output, timeline, messages, evidence or any other record."""
    written |= kept(site.records)
    assert {"letters.jsonl", f"incidents/{INCIDENT}/timeline.jsonl"} <= written.keys()
    assert leaks(written) == {}
