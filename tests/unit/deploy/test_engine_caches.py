"""TensorRT's caches are built once for a GPU, driver, engine and network, kept, and used by the service.

There is no GPU: the engine is the server tests' own, which logs and writes as TensorRT's backend.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.action.engine_caches import how_far
from ansible_collections.katago.fleet.plugins.modules import engine_caches

ENGINE = Path(__file__).resolve().parents[3] / "server" / "tests" / "fake_engine.py"
FILES = ["trt-10_gpu-fake_net-fake", "trt-10_gpu-fake_tune-0"]
# Runs units with --wait at once and others in the background, and keeps their output for journalctl.
RUN = """#!/bin/sh
case " $* " in *" --wait "*) waits=1 ;; esac
while [ "$1" != -- ]; do shift; done
shift
if [ "$waits" ]; then exec "$@"; fi
"$@" </dev/null >>JOURNAL 2>&1 &
echo $! > PID
"""
CTL = """#!/bin/sh
if [ "$1" = is-active ] && kill -0 "$(cat PID)" 2>/dev/null; then echo active; fi
"""
SHOW = """#!/bin/sh
cat JOURNAL
"""
SMI = """#!/bin/sh
cat SMI_SAYS
"""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host's directory, with a GPU of one name and driver."""
    programs = tmp_path / "bin"
    programs.mkdir()
    texts = {
        "systemd-run": RUN,
        "systemctl": CTL,
        "nvidia-smi": SMI,
        "journalctl": "#!/bin/sh\ncat JOURNAL\n",
    }
    for name, text in texts.items():
        for word in ("JOURNAL", "PID", "SMI_SAYS"):
            text = text.replace(word, str(tmp_path / word))
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    (tmp_path / "SMI_SAYS").write_text("NVIDIA A40, 535.309.01\n")
    (tmp_path / "scratch").mkdir()
    (tmp_path / "net.bin.gz").touch()
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr(engine_caches, "SCRATCH", tmp_path / "scratch")
    monkeypatch.setattr(engine_caches, "HOME", tmp_path / "home")
    monkeypatch.setattr(engine_caches, "KEPT", tmp_path / "tuning")
    behave(tmp_path)
    return tmp_path


def behave(host: Path, **behaviour: Any) -> None:
    (host / "analysis.cfg").write_text(json.dumps({"start": "trt", "seconds": 0.2, **behaviour}))


def caches(host: Path, **parameters: Any) -> engine_caches.Caches:
    return engine_caches.Caches(
        {
            "binary": str(ENGINE),
            "engine_sha256": "e" * 64,
            "network": str(host / "net.bin.gz"),
            "human_network": "",
            "networks_sha256": ["a" * 64],
            "config": str(host / "analysis.cfg"),
            "user": "u",
            "sandbox": {},
            **parameters,
        }
    )


def built(host: Path, **parameters: Any) -> tuple[engine_caches.Caches, list[str]]:
    """Caches after a build, and the new files."""
    made = caches(host, **parameters)
    (host / "JOURNAL").write_text("")
    made.start()
    end = time.monotonic() + 60
    while made.state() == "running":
        assert time.monotonic() < end
        time.sleep(0.05)
    assert made.state() == "done", made.log()
    new = made.keep(3.0)
    if not made.seeded():
        made.seed()
    return made, new


def test_caches_are_built_kept_and_copied_to_the_engine(host: Path) -> None:
    assert not caches(host).suffice()
    made, new = built(host)
    assert new == FILES
    assert any("Creating new plan cache" in line for line in made.log())
    assert made.suffice()
    assert made.seeded()
    assert sorted(path.name for path in (host / "home" / "trtcache").iterdir()) == FILES
    assert made.directory == host / "tuning" / f"trt-{made.key}"


def test_lost_caches_of_the_service_are_copied_again_without_a_build(host: Path) -> None:
    made, _ = built(host)
    (host / "home" / "trtcache" / FILES[0]).write_bytes(b"damaged")
    assert (made.suffice(), made.seeded()) == (True, False)
    made.seed()
    assert made.seeded()


def test_damaged_caches_are_built_again(host: Path) -> None:
    made, _ = built(host)
    (made.kept / FILES[0]).write_bytes(b"damaged")
    assert not made.suffice()
    assert built(host)[1] == FILES


def test_another_configuration_uses_the_kept_caches(host: Path) -> None:
    built(host)
    behave(host, another=1)
    assert not caches(host).suffice()
    made, new = built(host)
    assert new == []
    assert any("Using existing plan cache" in line for line in made.log())
    assert made.suffice()


@pytest.mark.parametrize("what", ["driver", "network", "engine"])
def test_another_driver_network_or_engine_has_caches_of_its_own(host: Path, what: str) -> None:
    first, _ = built(host)
    parameters: dict[str, Any] = {}
    if what == "driver":
        (host / "SMI_SAYS").write_text("NVIDIA A40, 550.1\n")
    elif what == "network":
        parameters["networks_sha256"] = ["b" * 64]
    else:
        parameters["engine_sha256"] = "f" * 64
    second = caches(host, **parameters)
    assert second.directory != first.directory
    assert not second.suffice()


def test_caches_of_a_removed_network_are_removed(host: Path) -> None:
    (host / "old.bin.gz").touch()
    old, _ = built(host, network=str(host / "old.bin.gz"), networks_sha256=["b" * 64])
    (host / "old.bin.gz").unlink()
    new, _ = built(host)
    assert not old.directory.exists()
    assert new.suffice()


def test_engine_that_fails_leaves_nothing(host: Path) -> None:
    behave(host, start="exit")
    made = caches(host)
    made.start()
    end = time.monotonic() + 60
    while made.state() == "running":
        assert time.monotonic() < end
        time.sleep(0.05)
    assert made.state() == "absent"
    assert not made.directory.exists()


def test_engine_of_another_backend_is_reported(host: Path) -> None:
    behave(host, start="ready")
    with pytest.raises(engine_caches.CachesError, match="Check that it has the TensorRT backend"):
        built(host)


def test_links_of_the_services_user_are_not_followed(host: Path) -> None:
    secret = host / "secret"
    secret.write_text("root's")
    (host / "scratch" / "trtcache").mkdir()
    (host / "scratch" / "trtcache" / "link").symlink_to(secret)
    target = host / "target"
    target.mkdir()
    engine_caches.copy_files(host / "scratch" / "trtcache", target)
    assert list(target.iterdir()) == []


@pytest.mark.parametrize(
    ("lines", "before", "expected"),
    [
        ([], 0, "starting the engine, 60 s so far"),
        (["...: Creating new timing cache"], 0, "building TensorRT's timing cache, 60 s so far"),
        (
            ["Creating new timing cache", "Saved new timing cache to /x", "Creating new plan cache"],
            240,
            "building TensorRT's plan cache, 60 s so far, about 3 min left (estimated from the last build)",
        ),
    ],
)
def test_current_step_of_the_engine_is_shown(lines: list[str], before: float, expected: str) -> None:
    assert how_far(lines, 60, before) == expected
