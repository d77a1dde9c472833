"""SRGAN's discriminator: Ledig et al., CVPR 2017, section 2.1.1 and figure 4; it tells enlarged patches from originals.

Eight convolutions, LeakyReLU 0.2, batch normalisation behind all but the first, strides instead of pooling, two dense layers.
"""

from __future__ import annotations

from torch import Tensor, nn

from sr_deploy.errors import InputError

WIDTHS = (64, 64, 128, 128, 256, 256, 512, 512)
STRIDES = (1, 2, 1, 2, 1, 2, 1, 2)
SHRINKS = 16  # all strides together
DENSE = 1024
SLOPE = 0.2


def check_patch(patch: int) -> None:
    """Check that patches of this side in pixels can be judged.

    Raises:
        InputError: they cannot.
    """
    if patch < SHRINKS or patch % SHRINKS:
        raise InputError(f"--patch {patch}: the discriminator takes multiples of {SHRINKS}; 96 is the paper's")


class Discriminator(nn.Module):
    """Judge patches: float (n, c, patch, patch) in [0, 1] to (n, 1), above 0 for an original; no sigmoid, the loss has it."""

    def __init__(self, *, colors: int, patch: int, widths: tuple[int, ...] = WIDTHS, dense: int = DENSE) -> None:
        """Build it for patches of one size.

        Raises:
            InputError: the patch does not fit.
        """
        super().__init__()
        check_patch(patch)
        layers: list[nn.Module] = []
        channels = colors
        for index, (width, stride) in enumerate(zip(widths, STRIDES, strict=True)):
            layers.append(nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=index == 0))
            if index:
                layers.append(nn.BatchNorm2d(width))
            layers.append(nn.LeakyReLU(SLOPE))
            channels = width
        self.features = nn.Sequential(*layers)
        side = patch // SHRINKS
        self.judge = nn.Sequential(nn.Flatten(), nn.Linear(channels * side**2, dense), nn.LeakyReLU(SLOPE), nn.Linear(dense, 1))

    def forward(self, x: Tensor) -> Tensor:
        judged: Tensor = self.judge(self.features(2.0 * x - 1.0))
        return judged
