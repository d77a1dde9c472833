"""Windows over pictures that are read by rows."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from sr_deploy.runtime.large.rows import NextRows, Stoppable, Window
from sr_deploy.runtime.pictures.samples import Pixels


class ArrayRows:
    """A picture in memory that insists on being read once, from top to bottom."""

    def __init__(self, pixels: Pixels) -> None:
        self.pixels, self.next, self.closed = pixels, 0, False
        h, w, c = pixels.shape
        self.shape = (h, w, c)
        self.dtype: np.dtype[np.generic] = pixels.dtype

    def rows(self, first: int, last: int) -> Pixels:
        assert first == self.next and first < last <= self.shape[0]
        self.next = last
        return self.pixels[first:last]

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def pixels() -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (500, 7, 4), np.uint8)


def test_overlapping_rows_are_those_of_the_array(pixels: Pixels) -> None:
    window = Window(ArrayRows(pixels))
    for first, last in ((0, 3), (0, 70), (50, 200), (199, 199), (130, 260), (255, 257), (240, 999), (499, 500)):
        assert np.array_equal(window[first:last], pixels[first:last])
        assert np.array_equal(window[first:last, :, :3], pixels[first:last, :, :3])
        assert np.array_equal(window[first:last, :, -1], pixels[first:last, :, -1])


def test_released_rows_take_no_memory_and_are_refused(pixels: Pixels) -> None:
    window = Window(ArrayRows(pixels))
    assert len(window[0:500]) == 500
    before = window.nbytes
    window.release(300)
    assert window.nbytes < before / 2
    assert np.array_equal(window[300:310], pixels[300:310])
    with pytest.raises(LookupError, match=r"row 10 was released; the window holds rows 256 to 500"):
        window[10:20]


def test_rows_are_taken_in_their_order() -> None:
    place = NextRows((10, 4, 1), np.dtype(np.uint8))
    assert len(place) == 10
    place[0:3][...] = 7
    assert np.array_equal(place.taken(), np.full((3, 4, 1), 7, np.uint8))
    assert place[3:10].shape == (7, 4, 1)
    with pytest.raises(LookupError, match=r"row 8 of the result is written when row 3 is the next"):
        place[8:10]


def test_a_stopped_source_gives_no_more_rows(pixels: Pixels) -> None:
    stop = threading.Event()
    source = Stoppable(ArrayRows(pixels), stop)
    assert np.array_equal(source.rows(0, 5), pixels[:5])
    stop.set()
    with pytest.raises(KeyboardInterrupt):
        source.rows(5, 10)
