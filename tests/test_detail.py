"""Which pictures are of use to choose thresholds from and to measure on."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from sr_deploy.calib_data import folder
from sr_deploy.degrade import Plane
from sr_deploy.detail import LEAST_DETAIL, check_detail, detail
from sr_deploy.errors import InputError
from sr_deploy.files import list_pictures
from sr_deploy.planes import read_studio_luma


def crops(name: str, count: int) -> list[Plane]:
    """Return parts of one photograph of the project."""
    luma = read_studio_luma(folder("calibrate") / name)
    return [luma[64 * n : 64 * n + 64, 64 * n : 64 * n + 64] for n in range(count)]


def flat(value: float) -> Plane:
    return np.full((64, 64), value, np.float32)


def check(tiles: list[Plane]) -> None:
    check_detail(tiles, "photos", least=4, advice="name others")


@pytest.mark.parametrize("values", [[16.0], [0.0, 255.0], [16.0, 128.0, 200.0, 235.0]])
def test_flat_pictures_are_an_error_that_says_what_is_needed(values: list[float]) -> None:
    message = rf"^photos: none of {len(values)} tiles has detail .* 0\.00 grey levels\); 4 that differ and have a gradient of 1 "
    with pytest.raises(InputError, match=f"{message}grey level or more are needed: name others$"):
        check([flat(value) for value in values])


def test_a_faint_gradient_is_no_detail() -> None:
    ramp = np.broadcast_to(np.linspace(100.0, 140.0, 64, dtype=np.float32), (64, 64))
    assert 0.0 < detail(ramp) < LEAST_DETAIL
    with pytest.raises(InputError, match="none of 4 tiles"):
        check([ramp, ramp.T, ramp + np.float32(50.0), ramp[::-1]])


@pytest.mark.parametrize("more", [[], [flat(16.0)] * 20])
def test_too_few_are_a_warning_with_their_number(caplog: pytest.LogCaptureFixture, more: list[Plane]) -> None:
    check([*crops("astronaut.png", 3), *more])
    assert f"photos: 3 of {3 + len(more)} tiles can be relied on, 4 that differ" in caplog.text


def test_copies_count_once(caplog: pytest.LogCaptureFixture) -> None:
    (crop,) = crops("astronaut.png", 1)
    check([crop, crop + np.float32(1.0), np.rint(crop * np.float32(0.995))] * 4)
    assert "1 of 12 tiles" in caplog.text


def test_enough_say_nothing(caplog: pytest.LogCaptureFixture) -> None:
    check(crops("astronaut.png", 5))
    assert caplog.text == ""


def test_the_repeated_border_of_a_tile_is_left_out() -> None:
    (crop,) = crops("chelsea.png", 1)
    assert detail(np.pad(crop, [(0, 192), (0, 100)], mode="edge")) == pytest.approx(detail(crop), rel=0.03)


@pytest.mark.parametrize("kind", ["calibrate", "select"])
def test_the_photographs_of_the_project_have_detail(kind: Literal["calibrate", "select"]) -> None:
    assert all(detail(read_studio_luma(path)) > 2 * LEAST_DETAIL for path in list_pictures(folder(kind)))
