"""Training pairs: pictures decoded once, degraded once per scale, and patches cut from the cache.

A *pair* is a picture's luma and its bicubic degradation, both cached as integers (the original as uint8 grey levels, the
degraded one in 1/64 grey level as int16: 3 bytes a pixel and scale). A batch is a function of ``(seed, step)`` alone,
so that any number of workers and a resumed run see the same batches.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sr_deploy.degrade import Plane, Upscale, bicubic_pair, imresize
from sr_deploy.errors import InputError
from sr_deploy.files import list_pictures
from sr_deploy.pictures import read_studio_luma

FRACTION = 64  # degraded luma is stored in 1/64 grey level
MOST_PATCH = 4096
GRID = 8  # spacing in pixels of the patch positions whose detail is weighed


@dataclass(frozen=True)
class DataConfig:
    """What is cut from which pictures."""

    folders: tuple[Path, ...]
    scales: tuple[int, ...] = (2, 3, 4)
    patch: int = 41  # pixels, of the enlarged picture; 41 in the paper
    shrink: tuple[float, ...] = (1.0, 0.7)  # each picture is used at these sizes
    detail: float = 0.0  # patches are drawn in proportion to (mean squared bicubic error) ** detail; 0 is uniform
    upscale: Upscale = "before"  # inside: the low-resolution patch goes in, not its enlargement

    def __post_init__(self) -> None:
        if not self.scales or min(self.scales) < 2 or max(self.scales) > 8:
            raise InputError(f"scales {self.scales} do not fit; use integers from 2 to 8")
        if not self.shrink or not all(0.05 <= factor <= 1.0 for factor in self.shrink):
            raise InputError(f"down-scaling factors {self.shrink} do not fit; use numbers from 0.05 to 1 (--shrink)")
        if not 0.0 <= self.detail <= 8.0:
            raise InputError(f"--detail {self.detail} is not a number from 0 to 8; 0 draws patches uniformly")
        if not 1 <= self.patch <= MOST_PATCH:
            raise InputError(f"--patch {self.patch} is not in 1 to {MOST_PATCH}; 41 is usual")
        for scale in self.scales if self.upscale == "inside" else ():
            if self.patch % scale:
                raise InputError(f"--patch {self.patch} is no multiple of the scale {scale}; {48 * scale} is usual")


@dataclass(frozen=True)
class Pair:
    """One picture at one scale."""

    degraded: NDArray[np.int16]  # (h, w), or (h / scale, w / scale) where the network enlarges; in 1 / FRACTION grey level
    original: NDArray[np.uint8]  # (h, w), grey levels
    cumulative: NDArray[np.float64]  # (positions,) running sum of the weights of the patch grid
    columns: int  # of the patch grid


class PatchSource:
    """Batches of (degraded, original) patches in [0, 1] from folders of pictures."""

    def __init__(self, config: DataConfig, *, workers: int = 1) -> None:
        """Decode and degrade every picture once.

        A picture that does not decode or is smaller than a patch is named in a warning and left out.

        Raises:
            InputError: no usable picture is left.
        """
        self.config = config
        paths = [path for folder in config.folders for path in list_pictures(folder)]
        with ThreadPoolExecutor(max(workers, 1)) as pool:
            found = [pair for pairs in pool.map(self._pairs_of, paths) for pair in pairs]
        self.by_scale = {scale: [pair for s, pair in found if s == scale] for scale in dict.fromkeys(config.scales)}
        if not all(self.by_scale.values()):
            raise InputError(
                f"{', '.join(map(str, config.folders))}: no picture of at least {config.patch}x{config.patch} pixels; "
                "name other folders"
            )
        self.cumulative = {s: np.cumsum([p.cumulative[-1] for p in pairs]) for s, pairs in self.by_scale.items()}
        pixels = sum(p.original.size for pairs in self.by_scale.values() for p in pairs)
        self.patches = max(pixels // config.patch**2, 1)  # in one epoch
        everything = hashlib.sha256()
        for scale, pairs in self.by_scale.items():
            for pair in pairs:
                everything.update(repr((scale, pair.original.shape)).encode() + pair.original.tobytes())
        self.digest = f"sha256:{everything.hexdigest()}"  # of the pictures in their order, as they are cached

    def batch(self, *, size: int, seed: int, step: int) -> tuple[Tensor, Tensor]:
        """Return float32 degraded and original patches, (size, 1, patch, patch), the same for the same arguments.

        Where the network enlarges, the degraded ones are (size, 1, patch / scale, patch / scale).
        """
        rng = np.random.default_rng((seed, step))
        pairs = []
        for _ in range(size):
            scale = self.config.scales[int(rng.integers(len(self.config.scales)))]
            pairs.append(self._patch(scale, rng))
        degraded, original = (np.stack(planes)[:, None].astype(np.float32) for planes in zip(*pairs, strict=True))
        degraded /= np.float32(FRACTION * 255)
        original /= np.float32(255)
        return torch.from_numpy(degraded), torch.from_numpy(original)

    def batches(self, *, size: int, seed: int, first_step: int, workers: int) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Yield batches from ``first_step`` on for ever, prepared ``workers`` ahead by as many threads (0: none)."""
        if workers == 0:
            while True:
                yield self.batch(size=size, seed=seed, step=first_step)
                first_step += 1
        with ThreadPoolExecutor(workers) as pool:
            queue: list[Future[tuple[Tensor, Tensor]]] = []
            while True:
                while len(queue) < 2 * workers:
                    queue.append(pool.submit(self.batch, size=size, seed=seed, step=first_step))
                    first_step += 1
                yield queue.pop(0).result()

    def _patch(self, scale: int, rng: np.random.Generator) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
        pair = self.by_scale[scale][_draw(self.cumulative[scale], rng)]
        row, column = divmod(_draw(pair.cumulative, rng), pair.columns)
        side = self.config.patch
        h, w = pair.original.shape
        top = min(row * GRID + int(rng.integers(GRID)), h - side)
        left = min(column * GRID + int(rng.integers(GRID)), w - side)
        step = scale if self.config.upscale == "inside" else 1
        top, left = top - top % step, left - left % step
        large = slice(top, top + side), slice(left, left + side)
        small = tuple(slice(s.start // step, s.stop // step) for s in large)
        turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
        a, b = np.rot90(pair.degraded[small], turns), np.rot90(pair.original[large], turns)
        return (a[:, ::-1], b[:, ::-1]) if mirror else (a, b)

    def _pairs_of(self, path: Path) -> list[tuple[int, Pair]]:
        try:
            luma = read_studio_luma(path)
        except InputError as err:
            print(f"warning: left out: {err}", file=sys.stderr)
            return []
        side = self.config.patch
        pairs = []
        for factor in self.config.shrink:
            plane = luma if factor == 1.0 else np.clip(np.rint(imresize(luma, factor)), 0, 255)
            for scale in dict.fromkeys(self.config.scales):
                if min(n - n % scale for n in plane.shape) >= side:
                    pairs.append((scale, make_pair(plane, scale, self.config)))
        if not pairs:
            h, w = luma.shape
            print(f"warning: left out: {path}: {w}x{h} pixels is smaller than a {side}x{side} patch", file=sys.stderr)
        return pairs


def make_pair(hr: Plane, scale: int, config: DataConfig) -> Pair:
    """Return the cached pair of one picture: ``hr`` is luma in whole grey levels, float32 (h, w)."""
    enlarged, hr = bicubic_pair(hr, scale)
    weights = box_means((enlarged - hr).astype(np.float64) ** 2, config.patch)[::GRID, ::GRID] ** config.detail
    degraded = enlarged if config.upscale == "before" else imresize(hr, 1.0 / scale)
    limit = np.iinfo(np.int16)
    fixed = np.clip(np.rint(degraded * FRACTION), limit.min, limit.max).astype(np.int16)
    return Pair(fixed, hr.astype(np.uint8), np.cumsum(weights), weights.shape[1])


def box_means(plane: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Return the mean of every ``side`` x ``side`` window: (h - side + 1, w - side + 1), never negative."""
    total = np.pad(plane.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    sums = total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
    return np.asarray(np.maximum(sums, 0.0) / side**2, np.float64)


def _draw(cumulative: NDArray[np.float64], rng: np.random.Generator) -> int:
    position = int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))
    return min(position, len(cumulative) - 1)
