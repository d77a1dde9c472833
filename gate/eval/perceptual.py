"""LPIPS and FID of pictures in RGB, by torchmetrics; torch is imported only when one of them is opened.

LPIPS (Zhang et al., CVPR 2018) is a weighted distance between what a classification network sees in two pictures; FID (Heusel et
al., NIPS 2017) is the Frechet distance between two normal distributions, those of Inception's features over the results and over
the originals. Lower is better. Both look at 8-bit RGB, ``scale`` pixels shaved from each border as for PSNR.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from sr_deploy.console import missing_package
from sr_deploy.degrade import Planes, bicubic_pair
from sr_deploy.errors import MachineError
from sr_deploy.gate.eval.options import Net
from sr_deploy.luma import rgb_from_ycbcr, ycbcr_from_rgb
from sr_deploy.measure import levels
from sr_deploy.notes import NOTES
from sr_deploy.public_files import cached_file

if TYPE_CHECKING:
    from torch import Tensor
    from torchmetrics import Metric
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

Pixels = NDArray[np.uint8]
"""A picture in full-range RGB: uint8 (h, w, 3)."""

FEATURES = 2048  # of FID: Inception's last pooling layer
FID_LEAST = 2  # pictures that have a covariance
FID_RECOMMENDED = 10_000
RELEASE = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0"
FID_WEIGHTS = f"{RELEASE}/weights-inception-2015-12-05-6726825d.pth"
LPIPS_WEIGHTS: dict[Net, str] = {  # of torchvision's networks; the linear layers on top of them come with torchmetrics
    "alex": "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    "vgg": "https://download.pytorch.org/models/vgg16-397923af.pth",
    "squeeze": "https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth",
}
LPIPS_LEAST: dict[Net, int] = {"alex": 31, "vgg": 16, "squeeze": 17}  # pixels that pooling leaves something of


class Perceptual(Protocol):
    """A figure over pictures that come one by one."""

    def add(self, sr: Pixels, hr: Pixels) -> None:
        """Take a result and its original, of one size.

        Raises:
            ValueError: they are too small.
        """

    def take(self) -> float:
        """Return the figure over the pictures that came since it was last taken."""


class Lpips:
    """Mean LPIPS over pictures."""

    def __init__(self, metric: LearnedPerceptualImagePatchSimilarity, *, least: int) -> None:
        """Measure by ``metric``, which takes RGB in [0, 1] (``normalize=True``) of at least ``least`` x ``least`` pixels."""
        self.metric, self.least = metric, least

    def add(self, sr: Pixels, hr: Pixels) -> None:
        """Take a result and its original; see :class:`Perceptual`."""
        if min(hr.shape[:2]) < self.least:
            raise ValueError(f"LPIPS needs at least {self.least}x{self.least} pixels, {hr.shape[0]}x{hr.shape[1]} are left")
        self.metric.update(tensor_of(sr) / 255.0, tensor_of(hr) / 255.0)

    def take(self) -> float:
        """Return the mean and start again."""
        return take_from(self.metric)


class Fid:
    """FID between all results and all originals."""

    def __init__(self, metric: FrechetInceptionDistance) -> None:
        self.metric = metric

    def add(self, sr: Pixels, hr: Pixels) -> None:
        """Take a result and its original; see :class:`Perceptual`."""
        self.metric.update(tensor_of(hr), real=True)
        self.metric.update(tensor_of(sr), real=False)

    def take(self) -> float:
        """Return the distance of at least ``FID_LEAST`` pictures and start again."""
        return take_from(self.metric)


def take_from(metric: Metric) -> float:
    """Return the figure of ``metric``, which starts again; 0 where rounding made the root of a matrix negative."""
    figure = float(metric.compute())
    metric.reset()
    return max(figure, 0.0)


def tensor_of(pixels: Pixels) -> Tensor:
    """Return a picture as a batch of one: uint8 (1, 3, h, w)."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(pixels, -1, 0)))[None]


def open_metrics(names: Sequence[str], *, net: Net = "alex", threads: int | None = None) -> dict[str, Perceptual]:
    """Return those of ``lpips`` and ``fid`` in ``names`` that can be measured here.

    For each of the others a warning says what it lacks; weights that are not in the cache are downloaded.
    """
    found: dict[str, Perceptual] = {}
    for name in names:
        try:
            with missing_package("metrics"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if name == "lpips":
                    found[name] = open_lpips(net)
                elif name == "fid":
                    found[name] = open_fid()
        except MachineError as err:
            NOTES.warning(f"{name.upper()} is left out: {err}")
        except Exception as err:  # a torchvision for another torch raises RuntimeError, a missing library OSError, ...
            reason = next(iter(str(err).splitlines()), "") or type(err).__name__
            NOTES.warning(
                f"{name.upper()} is left out: its network does not load ({reason}); "
                "install packages that fit each other: pip install -U 'sr-deploy[metrics]'"
            )
    if found and threads is not None:
        import torch

        torch.set_num_threads(threads)
    return found


def open_lpips(net: Net) -> Lpips:
    """Return LPIPS by one of its networks.

    Raises:
        MachineError: its weights cannot be had.
    """
    import torch
    import torchmetrics  # noqa: F401 -- named by itself where it is missing, not by a part of it
    import torchvision  # noqa: F401 -- torchmetrics wants it, and says so in two lines
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    cached_file(LPIPS_WEIGHTS[net], Path(torch.hub.get_dir()))
    return Lpips(LearnedPerceptualImagePatchSimilarity(net, normalize=True), least=LPIPS_LEAST[net])


def open_fid() -> Fid:
    """Return FID as its authors defined it: Inception sees pictures resized without antialiasing.

    Raises:
        MachineError: its weights cannot be had.
    """
    import torch
    import torch_fidelity  # noqa: F401 -- as above
    import torchmetrics  # noqa: F401
    import torchvision  # noqa: F401
    from torchmetrics.image.fid import FrechetInceptionDistance

    path = cached_file(FID_WEIGHTS, Path(torch.hub.get_dir()))
    return Fid(FrechetInceptionDistance(FEATURES, feature_extractor_weights_path=str(path), antialias=False))


def rgb_pair(sr: Planes, original: Pixels, scale: int, *, grey: bool) -> tuple[Pixels, Pixels]:
    """Return ``(sr, hr)`` as they are compared: 8-bit RGB, ``scale`` pixels shaved from each border.

    What a network made of luma gets Cb and Cr of the degraded picture, enlarged by bicubic, as ``sr-infer`` does. A grey picture
    is measured as it is, not brought to studio range, so that what was made of it is red, green and blue already.

    Args:
        sr: what was made of the degraded picture, nominally in [0, 1], not rounded: float32 (h, w) luma or (3, h, w) RGB.
        original: the whole picture, not cropped to a multiple of ``scale`` yet.
        scale: the factor.
        grey: whether ``sr`` is of a grey picture.
    """
    h, w = sr.shape[-2:]
    hr = original[:h, :w]
    if sr.ndim == 3 or grey:
        made = np.moveaxis(np.broadcast_to(levels(sr), (3, h, w)), 0, -1).astype(np.uint8)
    else:
        chroma, _ = bicubic_pair(ycbcr_from_rgb(hr)[1:], scale)
        made = rgb_from_ycbcr(np.concatenate([sr[None] * np.float32(255.0), chroma]))
    inside = slice(scale, h - scale), slice(scale, w - scale)
    return made[inside], hr[inside]
