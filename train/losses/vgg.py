"""What VGG19 sees in a picture, for the content loss of SRGAN (Ledig et al., CVPR 2017, section 2.2.1).

``VGGij`` is the feature map after the j-th convolution's ReLU before the i-th max pooling (Simonyan and Zisserman, ICLR 2015).
The weights are torchvision's ``vgg19-dcbb9e9d.pth``, whose name holds the first digits of its SHA-256.
"""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from sr_deploy.errors import InputError, MachineError
from sr_deploy.files import digest_bytes, read_bytes
from sr_deploy.public_files import cached_file

WEIGHTS_NAME = "vgg19-dcbb9e9d.pth"
ADDRESS = f"https://download.pytorch.org/models/{WEIGHTS_NAME}"
WIDTHS = ((64, 64), (128, 128), (256, 256, 256, 256), (512, 512, 512, 512), (512, 512, 512, 512))  # "pool" after each
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as torchvision trained it
STUDIO_BLACK, STUDIO_SPAN = 16.0 / 255.0, 219.0 / 255.0  # BT.601 luma
Distance = Literal["mse", "l1"]


class VGG19(nn.Module):
    """The convolutions of VGG19 as far as they are needed; never trained here."""

    mean: Tensor
    std: Tensor

    def __init__(self, terms: Sequence[str]) -> None:
        """Build the layers that ``terms`` (``VGG22``, ``VGG54``) need, with random weights."""
        super().__init__()
        self.terms = tuple(terms)
        self.features = nn.ModuleDict()  # named as in torchvision's file: by the place in its list
        self.after: dict[str, str] = {}  # name of the convolution -> term that is read behind it
        self.pools: set[str] = set()  # in front of these
        place, channels, wanted = 0, 3, set(terms)
        for i, widths in enumerate(WIDTHS, start=1):
            for j, width in enumerate(widths, start=1):
                if not wanted:
                    break
                self.features[str(place)] = nn.Conv2d(channels, width, 3, padding=1)
                if j == 1 and i > 1:
                    self.pools.add(str(place))
                if f"VGG{i}{j}" in wanted:
                    self.after[str(place)] = f"VGG{i}{j}"
                    wanted.remove(f"VGG{i}{j}")
                channels, place = width, place + 2  # a convolution and its ReLU
            place += 1  # the pooling
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the feature maps by term of pictures (n, 1, h, w) luma or (n, 3, h, w) RGB in [0, 1].

        Luma in studio range becomes the grey picture that it is the luma of.
        """
        if x.shape[1] == 1:
            x = ((x - STUDIO_BLACK) / STUDIO_SPAN).expand(-1, 3, -1, -1)
        x, found = (x - self.mean) / self.std, {}
        for name, conv in self.features.items():
            x = torch.relu(conv(nn.functional.max_pool2d(x, 2) if name in self.pools else x))
            if name in self.after:
                found[self.after[name]] = x
        return found


class ContentLoss(nn.Module):
    """The distance of two pictures in the feature maps of VGG19, by term; the mean over map and batch."""

    def __init__(self, vgg: VGG19, *, distance: Distance = "mse") -> None:
        super().__init__()
        self.vgg = vgg.eval()
        self.compare = nn.functional.mse_loss if distance == "mse" else nn.functional.l1_loss

    def forward(self, sr: Tensor, hr: Tensor) -> dict[str, Tensor]:
        """Return the loss of each term; gradients flow into ``sr`` only."""
        with torch.no_grad():
            expected = self.vgg(hr)
        return {name: self.compare(found, expected[name]) for name, found in self.vgg(sr).items()}


def random_vgg(terms: Sequence[str], *, seed: int = 0) -> VGG19:
    """Return VGG19 with random weights (He et al., ICCV 2015, by fan-out, as torchvision begins), the same for a seed."""
    vgg = VGG19(terms)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for conv in vgg.features.values():
            assert isinstance(conv, nn.Conv2d) and conv.bias is not None
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu", generator=generator)
            conv.bias.zero_()
    return vgg


def vgg_from(path: Path, terms: Sequence[str]) -> tuple[VGG19, str]:
    """Return VGG19 with the weights of torchvision's file, and the file's digest.

    Raises:
        InputError: missing, no such file, or not what the digest in its name says.
    """
    content = read_bytes(path, advice=f"get it from {ADDRESS}")
    named = re.search(r"-([0-9a-f]{8,64})\.pth$", path.name)
    found = hashlib.sha256(content).hexdigest()
    if named is not None and not found.startswith(named[1]):
        raise InputError(f"{path}: its SHA-256 begins with {found[:8]}, its name says {named[1]}; get it again from {ADDRESS}")
    vgg = VGG19(terms)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        weights = {name: state[name] for name in vgg.state_dict()}
        if not all(value.is_floating_point() and bool(value.isfinite().all()) for value in weights.values()):
            raise ValueError("a tensor holds other things than finite numbers")
        vgg.load_state_dict(weights)
    except (RuntimeError, KeyError, TypeError, ValueError, EOFError, AttributeError, IndexError, pickle.UnpicklingError) as err:
        reason = " ".join(str(err).split())[:120]
        raise InputError(f"{path}: not torchvision's VGG19 ({reason}); get it from {ADDRESS}") from err
    return vgg, digest_bytes(content)


def downloaded_vgg() -> Path:
    """Return the file of weights in torch's own cache, downloaded from its public address where it is not there yet.

    Raises:
        MachineError: it cannot be had.
    """
    try:
        return cached_file(ADDRESS, Path(torch.hub.get_dir()))
    except MachineError as err:
        raise MachineError(f"VGG19: {err}; or give the file with --vgg FILE, or choose --content pixel or random-vgg") from err
