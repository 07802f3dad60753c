"""Folders that a user names: links are followed, but none that lies in a run."""

from pathlib import Path

import pytest

from compressor.errors import InputError
from compressor.models.folders import check_readable, followed


def test_a_link_of_the_users_own_is_followed(tmp_path: Path) -> None:
    (tmp_path / "published").mkdir()
    (tmp_path / "link").symlink_to("published")
    assert followed(tmp_path / "link") == (tmp_path / "published").resolve()


def test_a_link_in_a_run_is_not(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "student").symlink_to(tmp_path.parent)
    with pytest.raises(InputError, match=r"student is a link; links inside a run folder are not followed"):
        followed(tmp_path / "student")


def test_a_link_in_a_circle_is_named(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    with pytest.raises(InputError, match="one is a link that leads back to itself"):
        followed(tmp_path / "one")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_links_to_files_are_followed_as_the_hubs_cache_has_them_but_not_in_a_run(tmp_path: Path, name: str) -> None:
    student = tmp_path / "student"
    student.mkdir()
    for file in ("config.json", "model.safetensors"):
        (student / file).touch()
    (student / name).unlink()
    (tmp_path / "blob").touch()
    (student / name).symlink_to(tmp_path / "blob")
    check_readable(student)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(InputError, match=f"{name} is a link"):
        check_readable(student)
