from __future__ import annotations

from pathlib import Path

import pytest

from sr_deploy.errors import InputError
from sr_deploy.train.data.config import DataConfig


def test_a_patch_that_is_no_multiple_of_the_scale_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--patch 41 is no multiple of the scale 2; 96 is usual"):
        DataConfig((tmp_path,), (2,), 41, upscale="inside")


@pytest.mark.parametrize("scales", [(), (1,), (2, 9)])
def test_scales_that_do_not_fit_are_refused(scales: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"scales \(.*\) do not fit; use integers from 2 to 8"):
        DataConfig((Path(),), scales)


@pytest.mark.parametrize("shrink", [(), (0.0,), (1.1,), (1.0, -0.5)])
def test_shrink_factors_that_do_not_fit_are_refused(shrink: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match=r"down-scaling factors \(.*\) do not fit; use numbers from 0.05 to 1"):
        DataConfig((Path(),), shrink=shrink)


@pytest.mark.parametrize("colors", [0, 2, 4])
def test_colours_that_do_not_fit_are_refused(colors: int) -> None:
    with pytest.raises(InputError, match=rf"{colors} colours do not fit; 1 is luma, 3 is RGB"):
        DataConfig((Path(),), colors=colors)


def test_mixed_scales_do_not_fit_where_the_network_enlarges() -> None:
    with pytest.raises(InputError, match=r"scales \(2, 3\) do not fit into one batch where the network enlarges"):
        DataConfig((Path(),), (2, 3), 48, upscale="inside")


def test_patch_is_the_low_resolution_side_where_a_batch_has_one_scale() -> None:
    inside = DataConfig((Path(),), (2, 3, 4), 47, upscale="inside", one_scale=True)
    before = DataConfig((Path(),), (2, 3, 4), 47, one_scale=True)
    single = DataConfig((Path(),), (3,), 48, upscale="inside")
    assert [inside.side(scale) for scale in (2, 3, 4)] == [94, 141, 188]
    assert [before.side(scale) for scale in (2, 3, 4)] == [47, 47, 47]
    assert single.side(3) == 48
