"""Images of bare Debian hosts, built from Debian packages. An image's name has a digest of its recipe."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from lab import runtime

SUITES = ("bookworm", "trixie")
PACKAGES = (
    "systemd systemd-sysv dbus openssh-server python3 python3-apt sudo iproute2 ca-certificates procps curl"
)
# Downloaded, but not installed: hosts stay bare, and the apt tasks of roles do not wait for the network.
PREFETCHED = "ocl-icd-libopencl1 pocl-opencl-icd haproxy keepalived"
# On a machine systemd makes every mount shared, in a container it does not. Without shared mounts a
# service gets no credentials.
SHARED_MOUNTS = """\
[Unit]
DefaultDependencies=no
Before=sysinit.target
[Service]
Type=oneshot
ExecStart=/usr/bin/mount --make-rshared /
[Install]
WantedBy=sysinit.target
"""
RECIPE = f"""\
set -e
mmdebstrap --quiet --variant=minbase --include="{PACKAGES.replace(" ", ",")}" \
  --skip=cleanup/apt \
  --customize-hook='chroot "$1" apt-get install -qq --download-only --yes {PREFETCHED} >/dev/null' \
  --customize-hook='rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/machine-id "$1"/etc/hostname' \
  --customize-hook='printf "PermitRootLogin prohibit-password\\nPasswordAuthentication no\\nUseDNS no\\n" \
    > "$1"/etc/ssh/sshd_config.d/lab.conf' \
  --customize-hook='mkdir -p "$1"/etc/systemd/system/ssh.service.d; \
    printf "[Service]\\nExecStartPre=\\nExecStartPre=%s\\nExecStartPre=%s\\n" \
    "/usr/bin/ssh-keygen -A" "/usr/sbin/sshd -t" \
    > "$1"/etc/systemd/system/ssh.service.d/keys.conf' \
  --customize-hook='chroot "$1" systemctl mask \
    systemd-modules-load.service systemd-networkd-wait-online.service' \
  --customize-hook='printf "%s" "{SHARED_MOUNTS}" > "$1"/etc/systemd/system/shared-mounts.service' \
  --customize-hook='chroot "$1" systemctl enable ssh.service shared-mounts.service' \
  SUITE ARCHIVE
"""


def name(suite: str) -> str:
    """The name of the image. A changed recipe gives a new name."""
    return f"localhost/katago-lab-{suite}:{hashlib.sha256(RECIPE.encode()).hexdigest()[:12]}"


def build(suite: str, scratch: Path) -> bool:
    """Build the image of a suite if it is missing. Return whether it was built."""
    if runtime.succeeds("image", "exists", name(suite)):
        return False
    archive = scratch / f"{suite}.tar"
    script = RECIPE.replace("SUITE", suite).replace("ARCHIVE", str(archive))
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    if result.returncode != 0:
        raise RuntimeError(f"mmdebstrap {suite} failed:\n{result.stderr[-2000:]}")
    try:
        runtime.podman(
            "import",
            '--change=CMD ["/sbin/init"]',
            "--change=STOPSIGNAL SIGRTMIN+3",
            str(archive),
            name(suite),
        )
    finally:
        archive.unlink()
    return True


def remove_all() -> list[str]:
    """Remove all images of the lab, also those of earlier recipes."""
    images = runtime.podman(
        "images",
        "--filter",
        "reference=localhost/katago-lab-*",
        "--format",
        "{{.Repository}}:{{.Tag}}",
    ).split()
    for each in images:
        runtime.podman("rmi", each)
    return images
