from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sr_deploy.train.data import memory
from sr_deploy.train.data.batches import DataConfig, PatchSource
from sr_deploy.train.data.hr_lr import list_training_pictures
from tests.helpers.batches import pictures_of


@pytest.mark.parametrize(
    "config",
    [
        DataConfig((), (2, 4), 16, (1.0, 0.5)),
        DataConfig((), (2,), 16, (1.0,), upscale="inside", colors=3),
        DataConfig((), (2,), 16, (1.0,), 1.0, colors=3),
    ],
)
def test_the_estimate_is_what_is_kept(photos: Path, config: DataConfig) -> None:
    config = DataConfig((photos,), *list(vars(config).values())[1:])
    kept = {}
    for pairs in pictures_of(PatchSource(config)).by_scale.values():
        for pair in pairs:
            for part in (pair.degraded, pair.original, pair.positions.cumulative):
                if isinstance(part, np.ndarray):
                    kept[id(part)] = part.nbytes
    # the weights of a patch begin a patch's side before the border
    assert memory.needed_bytes(list_training_pictures(config), config) == pytest.approx(sum(kept.values()), rel=0.03)


def test_pictures_that_take_half_of_the_memory_are_told_before_they_are_decoded(
    photos: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = DataConfig((photos,), (2,), 16, (1.0,))
    needed = memory.needed_bytes(list_training_pictures(config), config)
    assert needed == 3 * 64 * 64 * 3
    monkeypatch.setattr(memory, "available_bytes", lambda: 2 * needed)
    PatchSource(config)
    assert caplog.messages == []
    monkeypatch.setattr(memory, "available_bytes", lambda: 2 * needed - 1)
    PatchSource(config)
    line = "3 pictures take about 0.0 GB of memory, 0.0 GB are free; --cache DIR keeps them on disk instead"
    assert [(record.levelname, record.message) for record in caplog.records] == [("WARNING", line)]
    PatchSource(config, cache=tmp_path / "cache")
    assert caplog.messages == [line]
