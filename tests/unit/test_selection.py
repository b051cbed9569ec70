"""bin/test selects every test that a change may break. An unknown file selects more tests."""

from __future__ import annotations

import subprocess
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from tests import selection

ROOT = Path(__file__).resolve().parents[2]
IN_GIT = (ROOT / ".git").exists()


def files() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return listed.stdout.splitlines()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("roles/backup/tasks/run.yml", {"backup", "smoke"}),
        ("plugins/modules/backup_restore.py", {"backup", "smoke"}),
        ("plugins/module_utils/backup/survey.py", {"backup", "smoke"}),
        ("plugins/plugin_utils/incident/planner.py", {"incident", "smoke"}),
        ("plugins/modules/gpu_driver.py", {"gpu", "smoke"}),
        ("plugins/module_utils/gpu/devices.py", {"gpu", "smoke"}),
        ("roles/gpu_driver/tasks/service.yml", {"gpu", "smoke"}),
        ("playbooks/mitigate.yml", {"mitigation", "smoke"}),
        ("server/src/katago_mcp/tools.py", {"server", "default", "engine_faults", "smoke"}),
        ("molecule/watch/tests/test_watch.py", {"watch"}),
        ("docs/watch.md", set()),
        ("tests/unit/backup/test_survey.py", set()),
    ],
)
def test_file_selects_the_tests_of_its_subject(path: str, expected: set[str]) -> None:
    assert selection.tests_of(path) == frozenset({"lint", "unit", *expected})


@pytest.mark.parametrize("path", ["roles/new/tasks/main.yml", "plugins/modules/new.py", "playbooks/new.yml"])
def test_code_without_a_known_subject_selects_smoke(path: str) -> None:
    assert "smoke" in selection.touched([path])


def test_file_that_is_not_mapped_selects_the_default_tests() -> None:
    assert selection.touched(["strange/file"]) == list(selection.DEFAULT)


def test_tests_of_several_files_are_selected_once_and_in_order() -> None:
    paths = ["playbooks/watch.yml", "server/src/katago_mcp/sgf.py", "playbooks/triage.yml"]
    expected = ["lint", "unit", "server", "fuzz", "default", "engine_faults", "smoke", "triage", "watch"]
    assert selection.touched(paths) == expected


@pytest.mark.skipif(not IN_GIT, reason="not a checkout")
def test_every_pattern_maps_a_file() -> None:
    paths = files()
    patterns = [pattern for pattern, _ in selection.PATHS]
    unused = [pattern for pattern in patterns if not any(fnmatchcase(path, pattern) for path in paths)]
    assert unused == []


@pytest.mark.skipif(not IN_GIT, reason="not a checkout")
def test_every_file_is_mapped() -> None:
    assert [path for path in files() if selection.tests_of(path) is None] == []


@pytest.mark.skipif(not IN_GIT, reason="not a checkout")
def test_every_test_is_selected_by_a_file_outside_its_scenario() -> None:
    reached = selection.touched(path for path in files() if not path.startswith("molecule/"))
    assert reached == list(selection.TESTS)


def test_mapping_names_only_tests_that_exist() -> None:
    mapped = [*selection.SUBJECTS.values(), *(names for _, names in selection.PATHS)]
    assert {name for names in mapped for name in names.split()} <= set(selection.TESTS)
    assert set(selection.LONG) < set(selection.TESTS)


class Checkout:
    """A repository with a branch `main`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str) -> str:
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        command = ["git", *identity, *arguments]
        done = subprocess.run(command, cwd=self.directory, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def commit(self, name: str) -> str:
        """Commit a new file. Return the commit."""
        (self.directory / name).touch()
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", name)
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    monkeypatch.setattr(selection, "ROOT", tmp_path)
    return Checkout(tmp_path)


def test_branch_is_compared_with_the_commit_at_which_it_left_main(checkout: Checkout) -> None:
    start = checkout.commit("one")
    checkout.git("checkout", "--quiet", "-b", "work")
    checkout.commit("mine")
    checkout.git("checkout", "--quiet", "main")
    checkout.commit("theirs")
    checkout.git("checkout", "--quiet", "work")
    (checkout.directory / "one").write_text("changed")
    (checkout.directory / "new").touch()
    assert selection.base() == start
    assert selection.changed(start) == ["mine", "new", "one"]


def test_main_is_compared_with_the_last_pushed_commit_or_the_parent(checkout: Checkout) -> None:
    first, second = checkout.commit("one"), checkout.commit("two")
    checkout.commit("three")
    assert selection.base() == second
    checkout.git("update-ref", "refs/remotes/origin/main", first)
    assert selection.base() == first


def test_both_names_of_a_renamed_file_are_changed(checkout: Checkout) -> None:
    start = checkout.commit("one")
    checkout.git("mv", "one", "two")
    assert selection.changed(start) == ["one", "two"]


def test_unknown_revision_is_an_error_with_a_remedy(checkout: Checkout) -> None:
    checkout.commit("one")
    with pytest.raises(selection.Refused, match="Name the revision to compare with: bin/test changed REV"):
        selection.base("nonsense")
    with pytest.raises(selection.Refused, match="bin/test changed REV"):
        selection.base()


def test_unknown_test_is_an_error_that_lists_the_tests() -> None:
    with pytest.raises(selection.Refused, match=r"there is no test 'smok'\. Tests: lint unit"):
        selection.selected(["lint", "smok"])
