"""Folders are walked to their end, links included, and each of them once."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from sr_deploy.runtime.infer.walk import Walk, identity_of


def names(walk: Walk, folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in walk.files(folder)]


def tree(folder: Path, *files: str) -> Path:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def test_files_below_are_found_in_order(tmp_path: Path) -> None:
    assert names(Walk(), tree(tmp_path, "b/c/d", "b/a", "a", "c")) == ["a", "b/a", "b/c/d", "c"]


def test_hidden_names_are_found_only_when_asked(tmp_path: Path) -> None:
    tree(tmp_path, ".a", ".b/c", "d/.e", "f")
    assert names(Walk(), tmp_path) == ["f"]
    assert names(Walk(hidden=True), tmp_path) == [".a", ".b/c", "d/.e", "f"]


def test_a_hidden_folder_that_is_named_is_walked(tmp_path: Path) -> None:
    tree(tmp_path, ".b/c")
    assert names(Walk(), tmp_path / ".b") == ["c"]


def test_loops_of_links_end(tmp_path: Path) -> None:
    tree(tmp_path, "a/x", "b/y")
    (tmp_path / "a" / "up").symlink_to("..")
    (tmp_path / "a" / "self").symlink_to("self")
    (tmp_path / "a" / "b").symlink_to("../b")
    (tmp_path / "b" / "a").symlink_to("../a")
    assert names(Walk(), tmp_path) == ["a/self", "a/x", "b/y"]


def test_folders_that_link_to_each_other_are_walked_once_each(tmp_path: Path) -> None:
    for number in range(12):
        tree(tmp_path, f"{number:02}/x")
        for other in range(12):
            (tmp_path / f"{number:02}" / f"to{other:02}").symlink_to(f"../{other:02}")
    assert names(Walk(), tmp_path) == [f"{number:02}/x" for number in range(12)]


def test_a_link_to_a_folder_elsewhere_is_followed(tmp_path: Path) -> None:
    tree(tmp_path, "elsewhere/in/x", "here/y")
    (tmp_path / "here" / "link").symlink_to(tmp_path / "elsewhere")
    assert names(Walk(), tmp_path / "here") == ["link/in/x", "y"]


def test_a_real_name_comes_before_a_link(tmp_path: Path) -> None:
    tree(tmp_path, "z/x")
    (tmp_path / "a").symlink_to("z")
    assert names(Walk(), tmp_path) == ["z/x"]


def test_a_link_to_a_file_is_a_file_and_so_is_one_that_leads_nowhere(tmp_path: Path) -> None:
    tree(tmp_path, "x")
    (tmp_path / "link").symlink_to("x")
    (tmp_path / "nowhere").symlink_to("missing")
    assert names(Walk(), tmp_path) == ["link", "nowhere", "x"]


def test_a_folder_that_is_left_out_is_not_entered_by_any_name(tmp_path: Path) -> None:
    tree(tmp_path, "out/x", "y")
    (tmp_path / "link").symlink_to("out")
    identity = identity_of(tmp_path / "out")
    assert identity is not None
    walk = Walk(left_out=frozenset({identity}))
    assert names(walk, tmp_path) == ["y"]
    assert names(walk, tmp_path / "out") == ["x"]


def test_depth_is_bounded_when_asked(tmp_path: Path) -> None:
    tree(tmp_path, "a", "b/c", "b/d/e")
    assert names(Walk(depth=0), tmp_path) == ["a"]
    assert names(Walk(depth=1), tmp_path) == ["a", "b/c"]


def test_a_deep_tree_is_no_matter(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d"] * 1200)
    folder = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=folder)
        folder, before = os.open("d", os.O_RDONLY, dir_fd=folder), folder
        os.close(before)
    os.close(os.open("x", os.O_CREAT, dir_fd=folder))
    os.close(folder)
    try:
        assert Walk().files(tmp_path) == [deep / "x"]
    finally:  # pytest's own removal of old folders cannot go as deep
        subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)


def test_a_folder_that_cannot_be_listed_is_told(tmp_path: Path) -> None:
    told: list[tuple[Path, str | None]] = []
    walk = Walk(on_error=lambda path, err: told.append((path, err.strerror)))
    assert walk.files(tmp_path / "missing") == []
    assert told == [(tmp_path / "missing", "No such file or directory")]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_without_permission_holds_no_other_up(tmp_path: Path) -> None:
    tree(tmp_path, "a/x", "b")
    (tmp_path / "a").chmod(0)
    told: list[Path] = []
    try:
        assert names(Walk(on_error=lambda path, err: told.append(path)), tmp_path) == ["b"]
    finally:
        (tmp_path / "a").chmod(0o700)
    assert told == [tmp_path / "a"]
