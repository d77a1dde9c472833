"""Advice about pictures can be followed: what it names works, and where nothing works none is given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sr_deploy.errors import InputError
from sr_deploy.pictures import ENDS_EARLY, TOO_EARLY, Reading, open_picture
from sr_deploy.runtime.pictures.animation import Show, apng_bytes
from sr_deploy.runtime.pictures.png_file import HEADER_END, chunk
from sr_deploy.runtime.pictures.read import PictureFile, read_picture
from tests.runtime.large.large_pictures import encoded

TAKING = Reading(allow_truncated=True)
SAVED = [
    ("png", "RGB"),
    ("jpeg", "RGB"),
    ("webp", "RGB"),
    ("tiff", "RGB"),
    ("bmp", "RGB"),
    ("gif", "P"),
    ("avif", "RGB"),
    ("png", "I;16"),
]


@pytest.mark.parametrize(("kind", "mode"), SAVED)
def test_to_take_what_is_there_is_offered_only_where_it_works(tmp_path: Path, kind: str, mode: str) -> None:
    noise = Image.effect_noise((40, 30), 60)
    image = Image.fromarray(np.asarray(noise, np.uint16) * 257) if mode == "I;16" else noise.convert("RGB").convert(mode)
    path, offered = tmp_path / f"a.{kind}", 0
    image.save(path, kind)
    content = path.read_bytes()
    for end in sorted({*range(1, 60, 4), *range(60, len(content), max(len(content) // 25, 1))}):
        path.write_bytes(content[:end])
        try:
            read_picture(path)
        except InputError as err:
            if ENDS_EARLY in str(err):
                offered += 1
                assert read_picture(path, TAKING).pixels.shape[:2] == (30, 40)
            else:
                with pytest.raises(InputError) as caught:
                    read_picture(path, TAKING)
                assert ENDS_EARLY not in str(caught.value)
    assert offered or kind in ("gif", "avif", "webp", "tiff")


def test_of_a_broken_header_nothing_is_offered(tmp_path: Path) -> None:
    Image.effect_noise((40, 30), 60).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:20])
    for read in (open_picture, read_picture, lambda path: read_picture(path, TAKING)):
        with pytest.raises(InputError, match="the file is of another kind or damaged") as caught:
            read(tmp_path / "a.png")
        assert ENDS_EARLY not in str(caught.value) and TOO_EARLY not in str(caught.value)


def animation(path: Path) -> Path:
    frames = [np.full((4, 5, 3), value, np.uint8) for value in (1, 2)]
    path.write_bytes(apng_bytes(frames, Show((100, 100))))
    return path


def deep_animation(path: Path) -> Path:
    """A PNG of 16 bits that says it is an animation; its first frame is the whole picture."""
    control = (2).to_bytes(4, "big") + bytes(4)
    frame = [number.to_bytes(4, "big") for number in (0, 5, 4, 0, 0)]
    own = [chunk(b"acTL", control), chunk(b"fcTL", b"".join(frame) + b"\0\1\0\x0a\0\0")]
    content = encoded("png", np.full((4, 5, 3), 999, np.uint16))
    path.write_bytes(content[:HEADER_END] + b"".join(own) + content[HEADER_END:])
    return path


def pages(path: Path, second: str) -> Path:
    images = [Image.new("L", (5, 4)), Image.new(second, (5, 4))]
    images[0].save(path, "TIFF", save_all=True, append_images=images[1:])
    return path


def test_all_frames_are_offered_only_where_they_can_be_read(tmp_path: Path) -> None:
    files = [
        animation(tmp_path / "a.png"),
        pages(tmp_path / "b.tif", "L"),
        deep_animation(tmp_path / "c.png"),
        pages(tmp_path / "d.tif", "I;16"),
    ]
    found = []
    for path in files:
        with PictureFile(path) as file:
            found.append(file.frames_advice())
            assert file.read().frames == 2
        with PictureFile(path, Reading(frames=True)) as file:
            assert file.frames_advice() == ""
            if found[-1] == "--frames takes all":
                assert len(file.read().all_frames) == 2
            else:
                with pytest.raises(InputError, match="leave --frames out for the first"):
                    file.read()
    one_depth = "write its pages in one depth for --frames"
    assert found == ["--frames takes all", "--frames takes all", "write them in 8 bits for --frames", one_depth]
