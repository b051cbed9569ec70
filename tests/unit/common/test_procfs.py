"""Figures of a host from /proc and the file systems."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.common import process as common_process
from ansible_collections.katago.fleet.plugins.module_utils.common import procfs

LIMITS = """\
Limit                     Soft Limit           Hard Limit           Units
Max cpu time              unlimited            unlimited            seconds
Max open files            64                   64                   files
"""


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def process(
    proc: Path, pid: int, parent: int, cgroup: str, *, ticks: int = 0, name: str = "x", flags: int = 0
) -> None:
    fields = ["S", str(parent), *["0"] * 4, str(flags), *["0"] * 4, str(ticks), "0", *["0"] * 8, "10"]
    write(proc / str(pid) / "stat", f"{pid} ({name}) {' '.join(fields)}\n")
    write(proc / str(pid) / "cgroup", cgroup)


def test_memory_is_read_in_bytes_and_percent(tmp_path: Path) -> None:
    write(tmp_path / "meminfo", "MemTotal:       1000 kB\nMemAvailable:     25 kB\nSwapFree:     4 kB\n")
    assert procfs.memory(tmp_path) == {
        "total_bytes": 1024000,
        "available_bytes": 25600,
        "available_percent": 2.5,
        "swap_free_bytes": 4096,
    }


def test_pressure_is_read_and_its_absence_is_recorded(tmp_path: Path) -> None:
    assert "No such file" in procfs.pressure(tmp_path)["absent"]
    for resource in ("cpu", "memory", "io"):
        write(tmp_path / "pressure" / resource, "some avg10=1.50 avg60=2.50 avg300=0.00 total=1\n")
    assert procfs.pressure(tmp_path)["memory"] == {"some": {"avg10": 1.5, "avg60": 2.5}}


def test_limits_of_a_process_are_read(tmp_path: Path) -> None:
    write(tmp_path / "7" / "limits", LIMITS)
    write(tmp_path / "7" / "fd" / "0", "")
    assert procfs.limits(7, tmp_path) == {"open_files_limit": 64, "open_files": 1}
    write(tmp_path / "7" / "limits", LIMITS.replace("64", "unlimited"))
    assert procfs.limits(7, tmp_path)["open_files_limit"] is None


def test_own_process_is_read() -> None:
    assert common_process.state(os.getpid(), Path("/proc")) == "R"
    assert common_process.state(2**22 + 1, Path("/proc")) is None
    assert procfs.sample(0.0, Path("/proc")).processes[os.getpid()].parent == os.getppid()


def test_paths_of_one_file_system_are_one_entry(tmp_path: Path) -> None:
    (found,) = procfs.filesystems([str(tmp_path), str(tmp_path.parent)])
    assert found["paths"] == [str(tmp_path), str(tmp_path.parent)]
    assert 0 <= found["free_percent"] <= 100
    assert found["read_only"] is False


def test_read_only_mount_of_a_file_system_has_its_own_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    statvfs = os.statvfs

    def mounted(path: str) -> SimpleNamespace:
        found = statvfs(path)
        shown = {name: getattr(found, name) for name in dir(found) if name.startswith("f_")}
        return SimpleNamespace(**shown | {"f_flag": os.ST_RDONLY if path == str(tmp_path) else 0})

    monkeypatch.setattr(os, "statvfs", mounted)
    found = procfs.filesystems([str(tmp_path.parent), str(tmp_path)])
    assert [(each["paths"], each["read_only"]) for each in found] == [
        ([str(tmp_path.parent)], False),
        ([str(tmp_path)], True),
    ]


def test_sizes_are_listed_largest_first_without_following_links(tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    (small / "deep").mkdir(parents=True)
    large.mkdir()
    (small / "deep" / "file").write_bytes(bytes(10_000))
    (large / "file").write_bytes(bytes(1_000_000))
    (small / "link").symlink_to(large)
    found = procfs.consumers([str(small), str(tmp_path / "absent"), str(large)])
    assert [(each["path"], each["inodes"]) for each in found] == [(str(large), 1), (str(small), 3)]
    assert 1_000_000 <= found[0]["bytes"] < 1_100_000
    assert found[0]["device"] == procfs.filesystems([str(tmp_path)])[0]["device"]


UNIFIED = "0::/system.slice/{}\n"
HYBRID = "5:devices:/x\n1:name=systemd:/libpod-1/system.slice/{}\n0::/libpod-1/system.slice/{}\n"


@pytest.mark.parametrize("cgroup", [UNIFIED, HYBRID])
def test_processor_time_is_counted_by_unit(tmp_path: Path, cgroup: str) -> None:
    ours, other = cgroup.format(*["a.service"] * 2), cgroup.format(*["hog.service"] * 2)
    process(tmp_path, 1, 0, cgroup.format(*["init.scope"] * 2))
    process(tmp_path, 10, 1, ours, ticks=100)
    process(tmp_path, 20, 1, other, ticks=0, name="a) R 1 (b")
    process(tmp_path, 30, 2, other, flags=0x00200000)
    before = procfs.sample(0.0, tmp_path)
    process(tmp_path, 10, 1, ours, ticks=150)
    process(tmp_path, 20, 1, other, ticks=190)
    process(tmp_path, 21, 20, other, ticks=10)
    used = procfs.by_unit(before, procfs.sample(2.0, tmp_path))
    scale = 100 / os.sysconf("SC_CLK_TCK") / 2
    assert [(unit["unit"], unit["cpu_percent"]) for unit in used] == [
        ("hog.service", 200 * scale),
        ("a.service", 50 * scale),
        ("init.scope", 0.0),
    ]
    assert sorted(each["pid"] for each in used[0]["processes"]) == [20, 21]


def test_excluded_process_and_its_descendants_are_not_counted(tmp_path: Path) -> None:
    process(tmp_path, 10, 1, UNIFIED.format("ssh.service"))
    process(tmp_path, 11, 10, UNIFIED.format("ssh.service"), ticks=500)
    process(tmp_path, 12, 11, UNIFIED.format("ssh.service"), ticks=500)
    before = procfs.Sample(0.0, {}, {})
    (unit,) = procfs.by_unit(before, procfs.sample(1.0, tmp_path), without=11)
    assert [each["pid"] for each in unit["processes"]] == [10]


def test_disks_are_read_without_iostat(tmp_path: Path) -> None:
    row = "8 0 sda 1 2 {} 4 5 6 {} 8 9 {} 11\n7 0 loop0 1 2 3 4 5 6 7 8 9 10 11\n"
    write(tmp_path / "diskstats", row.format(0, 0, 0))
    before = procfs.sample(0.0, tmp_path)
    write(tmp_path / "diskstats", row.format(20, 40, 500))
    assert procfs.by_disk(before, procfs.sample(2.0, tmp_path)) == [
        {
            "disk": "sda",
            "busy_percent": 25.0,
            "read_bytes_per_second": 5120,
            "written_bytes_per_second": 10240,
        }
    ]


def test_missing_disk_counters_are_reported_as_absent(tmp_path: Path) -> None:
    before = procfs.sample(0.0, tmp_path)
    write(tmp_path / "diskstats", "7 0 loop0 1 2 3 4 5 6 7 8 9 10 11\n")
    after = procfs.sample(2.0, tmp_path)
    assert procfs.by_disk(before, after) == {"absent": "/proc/diskstats cannot be read"}
    assert procfs.by_disk(after, after) == []


def test_device_is_the_gpu_or_the_processors(tmp_path: Path) -> None:
    write(tmp_path / "cpuinfo", "model name : AMD EPYC\nflags : a\nmodel name : AMD EPYC\n")
    assert procfs.device(tmp_path) == "2 x AMD EPYC"
    write(tmp_path / "driver" / "nvidia" / "gpus" / "0" / "information", "Model: \t NVIDIA L4\n")
    assert procfs.device(tmp_path) == "1 x NVIDIA L4"


def test_machine_is_identified_by_name_and_device(tmp_path: Path) -> None:
    write(tmp_path / "cpuinfo", "model name : AMD EPYC\n")
    found = procfs.machine(tmp_path)
    assert found == {"name": os.uname().nodename, "device": "1 x AMD EPYC", "processors": os.cpu_count()}


def test_upgrades_before_the_given_time_are_ignored(tmp_path: Path) -> None:
    log = tmp_path / "dpkg.log"
    assert procfs.upgrades(log, "2026-11-24 00:00:00") == []
    log.write_text(
        "2026-11-23 10:00:00 upgrade old:amd64 1 2\n"
        "2026-11-24 10:00:00 upgrade libc6:amd64 1 2\n"
        "2026-11-24 10:00:01 status installed libc6:amd64 2\n"
        "2026-11-24 10:00:02 install new:all <none> 2\n"
    )
    assert procfs.upgrades(log, "2026-11-24 00:00:00") == ["libc6", "new"]
