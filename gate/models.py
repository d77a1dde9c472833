"""Whatever ``sr-eval`` and ``sr-gate`` can measure, behind one face: bicubic, a checkpoint, a graph, a plan."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sr_deploy.card import ModelCard, Shape
from sr_deploy.console import missing_package
from sr_deploy.degrade import Color, Planes, imresize, through_channels
from sr_deploy.errors import InputError
from sr_deploy.files import is_checkpoint
from sr_deploy.measure import bicubic
from sr_deploy.runtime.backends.engine import Engine, Gpu, Provider, Tiles, WrappedEngine, check_tiles
from sr_deploy.runtime.backends.ensemble import EnsembleEngine, average_views
from sr_deploy.runtime.backends.load import load
from sr_deploy.runtime.engines.shipped import engine_file, shipped_engines
from sr_deploy.runtime.upscaling.tiling import run_picture

if TYPE_CHECKING:
    from torch import nn

    from sr_deploy.train.networks.network import Network


@dataclass(frozen=True)
class Model:
    """A way to enlarge luma or RGB; ``card`` is ``None`` for bicubic."""

    name: str
    card: ModelCard | None
    network: Callable[[Planes, int], Planes] | None  # bare, for a scale: from the enlarged picture, or the small one

    @property
    def color(self) -> Color:
        """What it enlarges; bicubic is measured in luma."""
        return "y" if self.card is None else self.card.color

    def enlarge(self, lr: Planes, scale: int) -> Planes:
        """Return a picture enlarged ``scale`` times; float32 (h, w) luma or (3, h, w) RGB in [0, 1]."""
        if self.network is None:
            return bicubic(lr, scale)
        return self.network(imresize(lr, float(scale)) if self.card is None or self.card.upscale == "before" else lr, scale)


def open_model(
    name: str,
    *,
    provider: Provider = "auto",
    threads: int | None = None,
    trusted: bool = False,
    ensemble: bool = False,
    exact: bool = False,
    scale: int | None = None,
) -> Model:
    """Return what ``name`` stands for: ``bicubic``, a checkpoint of any known kind (whole images), or an engine (tiles).

    With ``ensemble``, networks are averaged over eight flips and turns; ``exact`` is that of ``load``.
    ``scale`` decides which engine a name stands for that several have.

    Raises:
        InputError: none of these, or damaged.
    """
    if name == "bicubic":
        return Model(name, None, None)
    path = model_path(name)
    if is_checkpoint(path):
        network, card = open_checkpoint(path, threads=threads)

        def whole(planes: Planes, scale: int) -> Planes:
            one, _ = network_at(network, card, scale)

            def run(given: Planes) -> Planes:
                return through_channels(lambda stacked: run_network(one, stacked[None])[0], given)

            return (average_views(run) if ensemble else run)(planes)

        return Model(name, card, whole)
    engine: Engine = load(engine_file(path, scale), provider=provider, threads=threads, trusted=trusted, exact=exact)
    if ensemble:
        engine = EnsembleEngine(engine, source=name)
    return Model(name, engine.card, lambda planes, _: run_picture(engine, planes))


def model_path(name: str) -> Path:
    """Return the path that ``name`` stands for: an engine's name stays; one of no engine may be that of a trained checkpoint.

    Raises:
        InputError: no file, no engine and no checkpoint is called so.
    """
    from sr_deploy.train.weights.pretrained import checkpoint_path, whereabouts

    path = checkpoint_path(name)
    if Path(name).suffix or any(engine.is_called(name) for engine in shipped_engines()):
        return Path(name)
    if not os.path.exists(path):  # noqa: PTH110 -- never raises
        raise InputError(
            f"{name}: no such file, and no engine is called so (sr-infer --list); name a checkpoint{whereabouts(path)}"
        )
    return path


def open_checkpoint(path: Path, *, threads: int | None = None) -> tuple[Network, ModelCard]:
    """Return the network and card of a checkpoint; here the gate imports torch (and for LPIPS and FID).

    Raises:
        InputError: missing, or not a checkpoint.
    """
    from sr_deploy.train.weights.pretrained import whereabouts

    if not path.is_file():
        raise InputError(f"{path}: no such file; name a checkpoint (.safetensors, .pt, .pth){whereabouts(path)}")
    with missing_package("train"):
        import torch

        from sr_deploy.train.weights import checkpoint
    if threads is not None:
        torch.set_num_threads(threads)
    return checkpoint.load(path)


def network_at(network: Network, card: ModelCard, scale: int) -> tuple[Network, ModelCard]:
    """Return the network that runs at a scale and its card: what an MDSR has for it, every other network as it is.

    Raises:
        InputError: an MDSR does not serve the scale.
    """
    from sr_deploy.train.networks.registry import taken_at

    return taken_at(network, card, scale)


def run_network(network: nn.Module, tiles: Tiles) -> Tiles:
    """Return the output of a torch network for float32 (n, c, h, w)."""
    import torch

    with torch.no_grad():
        return np.asarray(network(torch.from_numpy(np.ascontiguousarray(tiles))).numpy(), np.float32)


class CheckpointEngine:
    """A checkpoint that runs tiles of a given shape, so that it can stand beside an engine."""

    def __init__(self, network: Network, card: ModelCard, shape: Shape) -> None:
        factor = 1 if card.upscale == "before" else card.default_scale
        self.network = network
        self._card = card.with_changes(input_shape=shape, output_shape=(*shape[:2], shape[2] * factor, shape[3] * factor))

    def at_scale(self, scale: int) -> CheckpointEngine:
        """Return the engine for a scale: of an MDSR a new one, of every other network this one.

        Raises:
            InputError: an MDSR does not serve the scale.
        """
        assert self._card.input_shape is not None
        network, card = network_at(self.network, self._card, scale)
        return self if network is self.network else CheckpointEngine(network, card, self._card.input_shape)

    @property
    def card(self) -> ModelCard:
        """The checkpoint's card with the tile shape it runs at."""
        return self._card

    @property
    def provider(self) -> str:
        """``PyTorch``."""
        return "PyTorch"

    @property
    def batches(self) -> tuple[int, ...]:
        """The batch of the tile shape it runs at."""
        assert self._card.input_shape is not None
        return (self._card.input_shape[0],)

    @property
    def gpu(self) -> Gpu | None:
        """``None``: PyTorch computes it on the CPU."""
        return None

    def run(self, tiles: Tiles) -> Tiles:
        """Return new tiles; see :class:`sr_deploy.runtime.backends.engine.Engine`."""
        check_tiles(tiles, self._card)
        return np.concatenate([run_network(self.network, tile[None]) for tile in tiles])

    def close(self) -> None:
        """Nothing to free."""


class GraphReference(WrappedEngine):
    """A graph as a reference: it serves the scale it was exported for."""

    def at_scale(self, scale: int) -> GraphReference:
        """Return this engine."""
        return self


Reference = CheckpointEngine | GraphReference


def open_reference(path: Path, shape: Shape, *, provider: Provider = "auto", threads: int | None = None) -> Reference:
    """Return the fp32 reference of a gate: a checkpoint, or an fp32 graph (then torch is not imported).

    Raises:
        InputError: there is no such file, or the graph is not fp32.
    """
    path = model_path(str(path))
    if is_checkpoint(path):
        return CheckpointEngine(*open_checkpoint(path, threads=threads), shape)
    engine = load(engine_file(path), provider=provider, threads=threads)
    if engine.card.precision != "fp32":
        raise InputError(f"{path}: is {engine.card.precision}, the reference must be fp32; name the checkpoint or NAME_fp32.onnx")
    return GraphReference(engine)
