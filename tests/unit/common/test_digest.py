"""Digests of trees depend on the content, not on order and time."""

from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils.common import digest


def test_tree_names_files_links_and_executables(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "run").write_text("x")
    (tmp_path / "bin" / "run").chmod(0o755)
    (tmp_path / "link").symlink_to("bin/run")
    (tmp_path / "directory-link").symlink_to("bin")
    plain = digest.of_text("x")
    assert digest.of_tree(tmp_path) == {
        "bin/run": f"{plain}+x",
        "directory-link": "link:bin",
        "link": "link:bin/run",
    }


def test_json_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest.of_json({"a": 1, "b": 2}) == digest.of_json({"b": 2, "a": 1})


def test_differences_are_named_by_path() -> None:
    expected = {"gone": "1", "same": "2", "changed": "3"}
    actual = {"same": "2", "changed": "4", "new": "5"}
    assert digest.differences(expected, actual) == [
        "gone is missing",
        "new was added",
        "changed was changed",
    ]


def test_directory_digest_ignores_its_own_record(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    before = digest.of_path(tmp_path)
    (tmp_path / digest.RECORD).write_text("{}")
    assert digest.of_path(tmp_path) == before
