"""Arguments of ``sr-infer`` become pictures: files, folders, patterns and standard input."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sr_deploy.runtime.infer.sources import matches, sources_of


def tree(folder: Path, *files: str) -> None:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with pictures, which is the current one."""
    tree(tmp_path, "a.png", "b.JPG", "notes.txt", ".h.png", "sub/c.png", "sub/deep/d.webp", "sub/.h/e.png", "sub/f.txt")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(*arguments: str, results: str | None = None) -> list[str]:
    sources, refused = sources_of(arguments, results=None if results is None else Path(results))
    assert not refused
    return [str(source.path) for source in sources]


def relative(*arguments: str) -> list[str]:
    return [str(source.relative) for source in sources_of(arguments)[0]]


def refusals(*arguments: str) -> list[str]:
    return [str(one.error) for one in sources_of(arguments)[1]]


@pytest.mark.usefixtures("here")
def test_a_file_is_taken_whatever_its_name() -> None:
    assert found("notes.txt", ".h.png", "missing") == ["notes.txt", ".h.png", "missing"]
    assert relative("sub/c.png") == ["c.png"]


@pytest.mark.usefixtures("here")
def test_a_folder_gives_its_pictures_and_mirrors_them() -> None:
    assert found("sub") == ["sub/c.png", "sub/deep/d.webp"]
    assert relative("sub") == ["c.png", "deep/d.webp"]
    assert found(".") == ["a.png", "b.JPG", "sub/c.png", "sub/deep/d.webp"]


def test_the_folder_of_the_results_is_not_read(here: Path) -> None:
    tree(here, "out/a_x2.png")
    assert "out/a_x2.png" not in found(".", "**/*.png", results="out")
    (here / "link").symlink_to("out")
    assert "link/a_x2.png" not in found(".", results="out")
    assert found("out", results="out") == ["out/a_x2.png"]  # it was named
    assert found("out/*.png", results="out") == ["out/a_x2.png"]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("pattern", "expected", "mirrored"),
    [
        ("*.png", ["a.png"], ["a.png"]),
        ("*", ["a.png", "b.JPG"], ["a.png", "b.JPG"]),
        ("*.txt", ["notes.txt"], ["notes.txt"]),
        (".*.png", [".h.png"], [".h.png"]),
        ("**/*.png", ["a.png", "sub/c.png"], ["a.png", "sub/c.png"]),
        ("sub/**", ["sub/c.png", "sub/deep/d.webp"], ["c.png", "deep/d.webp"]),
        ("s*/*.png", ["sub/c.png"], ["sub/c.png"]),
        ("*/deep/*", ["sub/deep/d.webp"], ["sub/deep/d.webp"]),
        ("**/deep/**/*.webp", ["sub/deep/d.webp"], ["sub/deep/d.webp"]),
        ("sub/.?/*.png", ["sub/.h/e.png"], [".h/e.png"]),
        ("[ab].*", ["a.png", "b.JPG"], ["a.png", "b.JPG"]),
        ("[!a].JPG", ["b.JPG"], ["b.JPG"]),
    ],
)
def test_a_pattern_gives_what_it_matches(pattern: str, expected: list[str], mirrored: list[str]) -> None:
    assert found(pattern) == expected
    assert relative(pattern) == mirrored


def test_an_absolute_pattern_is_mirrored_from_its_first_star(here: Path) -> None:
    assert found(f"{here}/**/*.webp") == [f"{here}/sub/deep/d.webp"]
    assert relative(f"{here}/**/*.webp") == ["sub/deep/d.webp"]


def test_a_file_whose_name_is_a_pattern_is_that_file(here: Path) -> None:
    tree(here, "a[1].png", "*.png")
    assert found("a[1].png", "*.png") == ["a[1].png", "*.png"]


@pytest.mark.usefixtures("here")
def test_a_picture_that_is_found_twice_is_done_once() -> None:
    assert found("sub/c.png", "sub", "sub/../sub/c.png", "**/c.png", "sub/c.png") == ["sub/c.png", "sub/deep/d.webp"]


def test_what_gives_no_picture_is_told(here: Path) -> None:
    (here / "empty").mkdir()
    first, second, third = refusals("empty", "*.gif", "")
    assert first.startswith("empty: holds no picture; put ")
    assert second == "*.gif: matches no picture; check the pattern"
    assert third == "'': an empty name; name a picture"
    assert refusals("missing/**") == ["missing: cannot be listed (No such file or directory); check its name and permissions"]


def test_a_folder_with_a_pictures_name_is_a_folder(here: Path) -> None:
    tree(here, "x.png/y.png")
    assert found("x.png") == ["x.png/y.png"]
    assert "x.png/y.png" in found(".")


@pytest.mark.parametrize(
    "name", [b"-x.png", b"a b.png", b"a\nb.png", b"\xff\xfe.png", "\u00fc\u202e.png".encode(), b"'\"$(x).png"]
)
def test_odd_names_are_found(here: Path, name: bytes) -> None:
    (here / os.fsdecode(name)).write_text("")
    assert os.fsdecode(name) in found(".") and os.fsdecode(name) in found("*.png")
    assert found(os.fsdecode(name)) == [os.fsdecode(name)]


def test_a_dash_is_standard_input_and_a_file_of_that_name_is_not(here: Path) -> None:
    tree(here, "-")
    sources, _ = sources_of(["-", "./-", "-"], standard_input=lambda: Path("/spooled"))
    assert [(str(source.path), str(source.relative)) for source in sources] == [("/spooled", "stdin"), ("-", "-")]


@pytest.mark.parametrize(
    ("path", "pattern", "expected"),
    [
        ("a", "**", True),
        ("a/b/c", "**/**", True),
        ("a/b", "a/**/b", True),
        ("a/x/y/b", "a/**/b", True),
        ("a/x/y", "a/**/b", False),
        ("a/b/c", "*/c", False),
        ("a/.b/c", "**/c", False),
        ("b/a/b", "**/a/**/a", False),
        ("a/b/a", "**/a/**/a", True),
        ("a", "a/*", False),
    ],
)
def test_stars_match_as_in_a_shell(path: str, pattern: str, expected: bool) -> None:
    assert matches(path.split("/"), pattern.split("/")) is expected


def test_many_stars_take_no_time() -> None:
    assert not matches(["a"] * 200, ["**", "a"] * 60 + ["b"])
