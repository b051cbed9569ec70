"""Disposable Debian hosts on this machine: Podman containers that run systemd and sshd."""
