"""Reading a host's system from os-release, and the warning for an untested system."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.common import os_release
from ansible_collections.katago.fleet.plugins.module_utils.common.os_release import OsReleaseError, System

NOBLE = """\
PRETTY_NAME="Ubuntu 24.04.3 LTS"
NAME="Ubuntu"
VERSION_ID="24.04"
VERSION="24.04.3 LTS (Noble Numbat)"
VERSION_CODENAME=noble
ID=ubuntu
ID_LIKE=debian
HOME_URL="https://www.ubuntu.com/"
SUPPORT_URL="https://help.ubuntu.com/"
BUG_REPORT_URL="https://bugs.launchpad.net/ubuntu/"
PRIVACY_POLICY_URL="https://www.ubuntu.com/legal/terms-and-policies/privacy-policy"
UBUNTU_CODENAME=noble
LOGO=ubuntu-logo
"""
TRIXIE = """\
PRETTY_NAME="Debian GNU/Linux 13 (trixie)"
NAME="Debian GNU/Linux"
VERSION_ID="13"
VERSION="13 (trixie)"
VERSION_CODENAME=trixie
DEBIAN_VERSION_FULL=13.1
ID=debian
HOME_URL="https://www.debian.org/"
"""
BULLSEYE = """\
PRETTY_NAME="Debian GNU/Linux 11 (bullseye)"
NAME="Debian GNU/Linux"
VERSION_ID="11"
VERSION="11 (bullseye)"
VERSION_CODENAME=bullseye
ID=debian
"""
SID = """\
PRETTY_NAME="Debian GNU/Linux forky/sid"
NAME="Debian GNU/Linux"
VERSION_CODENAME=forky
ID=debian
"""


@pytest.mark.parametrize(
    ("text", "system"),
    [
        (NOBLE, System("ubuntu", "24.04", "noble", "Ubuntu 24.04.3 LTS", ("debian",))),
        (TRIXIE, System("debian", "13", "trixie", "Debian GNU/Linux 13 (trixie)")),
        (SID, System("debian", "", "forky", "Debian GNU/Linux forky/sid")),
        (
            "# ours\n\nID='linuxmint'\nID_LIKE=\"ubuntu debian\"\n",
            System("linuxmint", like=("ubuntu", "debian")),
        ),
    ],
)
def test_system_is_parsed_with_every_kind_of_quoting(text: str, system: System) -> None:
    assert os_release.parse(text, "/etc/os-release") == system


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (TRIXIE, ""),
        (NOBLE, "untested system: Ubuntu 24.04.3 LTS (ubuntu 24.04); tested: Debian 12 and 13"),
        (
            BULLSEYE,
            "untested system: Debian GNU/Linux 11 (bullseye) (debian 11); tested: Debian 12 and 13",
        ),
        (
            SID,
            "untested system: Debian GNU/Linux forky/sid (debian without VERSION_ID, forky); tested:"
            " Debian 12 and 13",
        ),
    ],
)
def test_untested_system_has_a_warning(text: str, warning: str, tmp_path: Path) -> None:
    path = tmp_path / "os-release"
    path.write_text(text)
    assert os_release.warning_of(path) == warning


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('ID=debian\nVERSION_ID="13\n', "malformed in line 2, 'VERSION_ID=\"13': no closing quotation"),
        ("ID=debian\nthis is no assignment\n", "malformed in line 2, 'this is no assignment'"),
        ("ID=debian or so\n", "it does not assign exactly one value"),
        ('NAME="Linux"\n', "has no line such as ID="),
        ("ID=\n", "has no line such as ID="),
        ("", "has no line such as ID="),
    ],
)
def test_malformed_file_is_an_error_with_its_place_and_the_expected_form(
    text: str, problem: str, tmp_path: Path
) -> None:
    path = tmp_path / "os-release"
    path.write_text(text)
    with pytest.raises(OsReleaseError) as failed:
        os_release.read(path)
    assert problem in str(failed.value)
    assert str(path) in str(failed.value)
    assert "ID=debian" in str(failed.value)
    assert os_release.warning_of(path) == f"unknown system: {failed.value}"


def test_missing_file_is_an_error_that_names_its_package(tmp_path: Path) -> None:
    with pytest.raises(OsReleaseError, match=r"cannot be read: No such file or directory.*base-files"):
        os_release.read(tmp_path / "os-release")
