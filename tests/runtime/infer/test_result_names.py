"""Where results go: mirrored, never two to one file, and never taken for pictures by the next run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sr_deploy.errors import InputError, MachineError
from sr_deploy.runtime.infer.result_names import Naming, check_folder, result_pairs, results_folder
from sr_deploy.runtime.infer.sources import Source, sources_of
from sr_deploy.runtime.pictures.standard_streams import STDOUT


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.png", "photos/b.jpg", "photos/sub/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    monkeypatch.chdir(tmp_path)


def results(arguments: list[str], asked: str | None = None, *, resumed: bool = False) -> dict[str, str]:
    sources, _ = sources_of(arguments, results=results_folder(asked), standard_input=lambda: Path("/proc/self/fd/9"))
    return {str(source): str(result) for source, result in result_pairs(sources, Naming(asked, 2), resumed=resumed)}


@pytest.mark.parametrize(
    ("argument", "asked", "expected"),
    [
        ("a.png", None, {"a.png": "a_x2.png"}),
        ("photos/b.jpg", None, {"photos/b.jpg": "photos/b_x2.jpg"}),
        ("photos/b.jpg", "out", {"photos/b.jpg": "out/b_x2.jpg"}),
        ("photos/b.jpg", "new.png", {"photos/b.jpg": "new.png"}),
        ("photos", "out", {"photos/b.jpg": "out/b_x2.jpg", "photos/sub/c.png": "out/sub/c_x2.png"}),
        ("photos", None, {"photos/b.jpg": "photos_x2/b_x2.jpg", "photos/sub/c.png": "photos_x2/sub/c_x2.png"}),
        ("photos/", "out.v1/", {"photos/b.jpg": "out.v1/b_x2.jpg", "photos/sub/c.png": "out.v1/sub/c_x2.png"}),
        ("**/c.png", "out", {"photos/sub/c.png": "out/photos/sub/c_x2.png"}),
        ("**/c.png", None, {"photos/sub/c.png": "photos/sub/c_x2.png"}),
        ("-", None, {"/proc/self/fd/9": str(STDOUT)}),
        ("-", "out", {"/proc/self/fd/9": "out/stdin_x2.png"}),
        ("-", "-", {"/proc/self/fd/9": str(STDOUT)}),
        ("a.png", "/dev/stdout", {"a.png": str(STDOUT)}),
    ],
)
def test_results_mirror_what_is_read(argument: str, asked: str | None, expected: dict[str, str]) -> None:
    assert results([argument], asked) == expected


def test_the_current_folder_has_its_results_beside_it(tmp_path: Path) -> None:
    assert results(["."])["a.png"] == str(tmp_path.with_name(f"{tmp_path.name}_x2") / "a_x2.png")
    with pytest.raises(InputError, match="no place beside it"):
        result_pairs([Source(Path("/a.png"), Path("a.png"), Path("/"), "walked")], Naming(None, 2))


@pytest.mark.parametrize("arguments", [["*.png"], ["photos", "-o"], ["."]])
def test_a_second_run_does_not_enlarge_the_results_of_the_first(arguments: list[str]) -> None:
    asked = "." if arguments[0] == "." else "photos" if len(arguments) > 1 else None
    first = results(arguments[:1], asked)
    for result in first.values():
        Path(result).parent.mkdir(parents=True, exist_ok=True)
        Path(result).write_text("")
    assert results(arguments[:1], asked) == first
    assert results(arguments[:1], asked, resumed=True) == first


@pytest.mark.parametrize("asked", [None, "."])
def test_a_video_that_was_stopped_is_no_video_to_enlarge(asked: str | None) -> None:
    for name in ("video.mp4", "video_x2.part.mp4", "video_x2.part2.mp4", "other.part.mp4"):
        Path(name).write_text("")
    found = results(["*.mp4"], asked)
    assert found == {"video.mp4": "video_x2.mp4", "other.part.mp4": "other.part_x2.mp4"}
    assert results(["video.mp4", "video_x2.part.mp4"], resumed=True) == {"video.mp4": "video_x2.mp4"}
    assert len(results(["video.mp4", "video_x2.part.mp4"])) == 2  # it was named


def test_what_a_shell_expands_is_resumed_too() -> None:
    Path("a_x2.png").write_text("")
    Path("a_x2_x2.png").write_text("")
    assert results(["a.png", "a_x2.png", "a_x2_x2.png"], resumed=True) == {"a.png": "a_x2.png", "a_x2_x2.png": "a_x2_x2_x2.png"}
    assert "a_x2.png" in results(["a.png", "a_x2.png"])


@pytest.mark.parametrize(
    ("arguments", "asked", "message"),
    [
        (["photos", "a.png"], "new.png", "a file for a folder of pictures"),
        (["photos"], "new.png", "a file for a folder of pictures; name a folder with -o, or end its name in a slash"),
        (["a.png", "photos/b.jpg"], "new.png", "new.png: one file for 2 pictures"),
        (["a.png", "photos/b.jpg"], "-", "-: one file for 2 pictures"),
        (["a.png", "-"], None, "standard output takes one picture, not 2"),
        (["a.png"], "", "-o '': an empty name"),
        (["a.png"], "a.tar", ".tar is no format that is written"),
    ],
)
def test_a_place_that_does_not_fit_is_refused(arguments: list[str], asked: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        results(arguments, asked)


def test_two_folders_with_one_name_in_both_are_refused() -> None:
    Path("other").mkdir()
    Path("other/b.jpg").write_text("")
    with pytest.raises(InputError, match=r"out/b_x2\.jpg: would be written for photos/b\.jpg and for other/b\.jpg"):
        results(["photos", "other"], "out")


def test_a_folder_is_checked_before_work(tmp_path: Path) -> None:
    check_folder(Path("new/and/deep"))
    check_folder(tmp_path)
    assert not Path("new").exists()
    for name in ("a.png", "a.png/x"):
        with pytest.raises(InputError, match=r"cannot be a folder \(a\.png is a file"):
            check_folder(Path(name))
    Path("gone").symlink_to("nowhere")
    with pytest.raises(InputError, match="leads nowhere"):
        check_folder(Path("gone/x"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write every folder")
def test_a_folder_without_permission_is_the_machines(tmp_path: Path) -> None:
    (tmp_path / "shut").mkdir(0o500)
    with pytest.raises(MachineError, match="no permission"):
        check_folder(tmp_path / "shut" / "out")
