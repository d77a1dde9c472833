"""What an evaluation may be asked for. Light to import: the command line is read before anything heavy is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sr_deploy.errors import InputError
from sr_deploy.options import check_choice, check_positive, check_provider, check_threads, check_types

if TYPE_CHECKING:
    from sr_deploy.runtime.backends.engine import Provider

METRICS = ("psnr", "ssim", "lpips", "fid")
PROTOCOLS = ("whole", "fixed")
NETS = ("alex", "vgg", "squeeze")

Net = Literal["alex", "vgg", "squeeze"]
"""The network of LPIPS; its authors compare by AlexNet."""


@dataclass(frozen=True)
class EvalOptions:
    """What models are measured on, and how."""

    data: tuple[Path, ...]  # folders of high-resolution pictures
    scales: tuple[int, ...] = ()  # none: each model's own default, 2 for bicubic
    protocol: Literal["whole", "fixed"] = "whole"  # whole pictures, or fixed 256x256
    metrics: tuple[str, ...] = ("psnr", "ssim")  # of METRICS; lpips and fid need sr-deploy[metrics]
    lpips_net: Net = "alex"
    unrounded: bool = False  # compare luma of luma networks as it is computed, as pytorch-vdsr does; else in whole levels
    ensemble: bool = False  # mean over eight flips and turns
    provider: Provider = "auto"  # where ONNX Runtime runs
    native_sums: bool = False  # int8 as this processor computes it: without VNNI its sums saturate
    trust_plan: bool = False  # load a plan without a card or with host code
    threads: int | None = None  # of the CPU; None: as many as it has cores

    def __post_init__(self) -> None:
        """Raise ``InputError`` where a value cannot be."""
        check_types(self)
        if not self.data:
            raise InputError("data=(): no folder of pictures; name one or several")
        if self.scales:
            check_positive(scales=min(self.scales))
        check_choice("protocol", self.protocol, PROTOCOLS)
        for metric in self.metrics:
            check_choice("metrics", metric, METRICS)
        check_choice("lpips_net", self.lpips_net, NETS)
        check_provider(self.provider)
        check_threads(self.threads)
