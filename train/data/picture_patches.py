"""Patches from folders of pictures: each is decoded once, degraded once per scale, and patches are cut from what is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sr_deploy.errors import InputError
from sr_deploy.progress import progress
from sr_deploy.train.data.config import DataConfig
from sr_deploy.train.data.damage import damage_patch
from sr_deploy.train.data.hr_lr import Listed
from sr_deploy.train.data.pairs import FRACTION, cut, draw, part, place
from sr_deploy.train.data.picture_pairs import Found, usable_pairs
from sr_deploy.train.data.store import Store


class PicturePatches:
    """Degraded and original patches, drawn at random from pictures."""

    def __init__(self, config: DataConfig, pictures: Sequence[Listed], store: Store, *, workers: int) -> None:
        """Decode and degrade every picture once; what is made goes into ``store``.

        A picture that does not decode or is smaller than a patch is named in a warning and left out.

        Raises:
            InputError: no usable picture is left.
            MachineError: the store cannot be read or written.
        """
        self.config, self.store = config, store
        found: list[Found] = []
        with progress("reading pictures", len(pictures)) as advance, ThreadPoolExecutor(max(workers, 1)) as pool:
            for of_one in pool.map(partial(usable_pairs, config=config, store=store), pictures):
                found += of_one
                advance()
        self.by_scale = {scale: [pair for s, pair, _ in found if s == scale] for scale in dict.fromkeys(config.scales)}
        for scale, pairs in self.by_scale.items():
            if not pairs:
                side = config.side(scale)
                raise InputError(
                    f"{', '.join(map(str, config.folders))}: no picture of at least {side}x{side} pixels; name other folders"
                )
        self.cumulative = {s: np.cumsum([p.positions.total for p in pairs]) for s, pairs in self.by_scale.items()}
        areas = (Fraction(p.size[0] * p.size[1], config.side(s) ** 2) for s, pairs in self.by_scale.items() for p in pairs)
        self.patches = max(int(sum(areas)), 1)
        names = tuple(facts for scale in self.by_scale for s, _, facts in found if s == scale)
        self.digest = "sha256:" + bytes(store.recall(("digest", *names), self._digest)).hex()

    def take(self, size: int, scale: int | None, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return ``size`` degraded and original patches, new float32 (size, c, ., .) in [0, 1], of ``scale`` or mixed."""
        places = []
        for _ in range(size):
            drawn = scale or self.config.scales[int(rng.integers(len(self.config.scales)))]
            pair = self.by_scale[drawn][draw(self.cumulative[drawn], rng)]
            sizes = self.config.side(drawn), self.config.step(drawn)
            places.append((pair, place(pair, *sizes, rng), *sizes))
        # After all places, so that they are the same with damage and without.
        given = partial(damage_patch, kinds=self.config.degrade, rng=rng) if self.config.degrade else part
        pairs = [cut(*where, given) for where in places]
        degraded, original = (np.stack(planes).astype(np.float32) for planes in zip(*pairs, strict=True))
        degraded /= np.float32(FRACTION * 255)
        original /= np.float32(255)
        return degraded, original

    def _digest(self) -> NDArray[np.uint8]:
        """Return the digest of the pictures in their order, as they are kept: uint8 (32,)."""
        everything = hashlib.sha256()
        for scale, pairs in self.by_scale.items():
            for pair in pairs:
                original = np.asarray(pair.original[:, : pair.size[0], : pair.size[1]])
                shape = original.shape if self.config.colors == 3 else original.shape[1:]
                everything.update(repr((scale, shape)).encode() + original.tobytes())
                if self.config.lr is not None:  # else it follows from the original
                    everything.update(np.asarray(pair.degraded[:, :, :]).tobytes())
        return np.frombuffer(everything.digest(), np.uint8)
