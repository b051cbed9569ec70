"""The lock is evaluated for the host's Python, not for the control node's."""

from ansible_collections.katago.fleet.plugins.plugin_utils.deploy import wheels

LOCK = """\
anyio==4.12.0 \\
    --hash=sha256:{a} \\
    --hash=sha256:{b}
    # via mcp
tomli==2.3.0 ; python_full_version < '3.12' \\
    --hash=sha256:{a}
pywin32==311 ; sys_platform == 'win32' \\
    --hash=sha256:{a}
""".format(a="a" * 64, b="b" * 64)


def test_markers_are_evaluated_for_the_host() -> None:
    old = list(wheels.requirements(LOCK, python="3.11", machine="x86_64"))
    new = list(wheels.requirements(LOCK, python="3.13", machine="x86_64"))
    assert [line.split()[0] for line in old] == ["anyio==4.12.0", "tomli==2.3.0"]
    assert [line.split()[0] for line in new] == ["anyio==4.12.0"]


def test_every_hash_is_kept() -> None:
    line = next(wheels.requirements(LOCK, python="3.13", machine="x86_64"))
    assert line == f"anyio==4.12.0 --hash=sha256:{'a' * 64} --hash=sha256:{'b' * 64}"
