"""What a network in training reaches on whole pictures that it does not train on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from sr_deploy.degrade import Color, Planes, imresize, through_channels
from sr_deploy.errors import InputError
from sr_deploy.files import list_pictures
from sr_deploy.measure import mean, score
from sr_deploy.planes import read_measured
from sr_deploy.train.networks.network import Network

MEASURED_SIDE = 11  # pixels that SSIM needs


def load_validation(source: Path | Sequence[Path], scales: Sequence[int], color: Color = "y") -> Sequence[Planes]:
    """Return every picture of a folder, or of a list, as a network of ``color`` is measured: in whole grey levels.

    Raises:
        InputError: a picture is broken, or too small to be measured at the largest scale.
    """
    least = MEASURED_SIDE + 3 * max(scales)  # cut to a multiple of the scale, and shaved by it on both sides
    found = []
    for path in list_pictures(source) if isinstance(source, Path) else source:
        found.append(read_measured(path, color))
        h, w = found[-1].shape[-2:]
        if min(h, w) < least:
            raise InputError(f"{path}: {w}x{h} pixels is too small to measure at x{max(scales)}, {least} are needed")
    return found


def validate(network: Network, pictures: Sequence[Planes], scales: Sequence[int]) -> dict[int, float]:
    """Return the mean luma PSNR in dB by scale of a network on whole pictures, (h, w) or (3, h, w) in grey levels."""
    was_training = network.training
    network.eval()
    device = next(network.parameters()).device

    def enlarge(lr: Planes, scale: int) -> Planes:
        given, one = imresize(lr, float(scale)) if network.upscale == "before" else lr, network.at_scale(scale)

        def run(planes: Planes) -> Planes:
            with torch.no_grad():
                output = one(torch.from_numpy(np.ascontiguousarray(planes))[None].to(device))
            return np.asarray(output[0].float().cpu().numpy(), np.float32)

        return through_channels(run, given)

    result = {scale: mean([score(enlarge, hr, scale) for hr in pictures]).psnr_db for scale in scales}
    network.train(was_training)
    return result
