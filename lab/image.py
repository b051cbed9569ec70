"""Images of bare Debian hosts, built from Debian's packages and named by their recipe."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from lab import runtime

SUITES = ("bookworm", "trixie")
PACKAGES = (
    "systemd systemd-sysv dbus openssh-server python3 python3-apt sudo iproute2 ca-certificates procps curl"
)
# Downloaded, not installed: hosts stay bare, and a role's apt task does not wait for the network.
PREFETCHED = "ocl-icd-libopencl1 pocl-opencl-icd"
# On a machine systemd makes every mount shared; in a container it does not, and without that
# credentials do not reach a service.
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
    """The image's name; a changed recipe makes a new one."""
    return f"localhost/katago-lab-{suite}:{hashlib.sha256(RECIPE.encode()).hexdigest()[:12]}"


def build(suite: str, scratch: Path) -> bool:
    """Build the image of a suite unless it is there; return whether it was built."""
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
    """Remove every image that the lab built, of this recipe and of earlier ones."""
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
