"""Plain networks in low resolution: ETDS, ECBSR and ABPN of github.com/ECNUSR/ETDS, and Real-ESRGAN's SRVGGNetCompact.

All read and give RGB in [0, 1] (or one channel). ECBSR (Zhang et al., ACM MM 2021), ABPN (Du et al., CVPRW 2021) and
SRVGGNetCompact add the picture enlarged by repetition, which is what ``plain`` adds in front of its PixelShuffle.

ETDS (Chao et al., CVPR 2023) and its forms of ECBSR and ABPN add nothing: their convolutions carry the picture. They end in two
layers that clip, relu(1 - relu(1 - y)) = min(max(y, 0), 1), the second one a 1x1 convolution of minus the identity with biases of
1 (equation 12). So the last 3x3 convolution, which makes 1 - y, is turned to make y, and the 1x1 one is a clip of the ``plain``
network: exact up to rounding. At x3 they carry one channel more than is shuffled, which is left out.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sr_deploy.train.networks.network import Network
from sr_deploy.train.weights.public_state import Foreign, State, matches

PART = r"\.(?:weight|bias)"
ETDS_OWN = re.compile(rf"backbone_convs\.\d+{PART}|conv_clip{PART}")
ETDS = re.compile(rf"conv_first{PART}|{ETDS_OWN.pattern}|conv_last{PART}")
ECBSR = re.compile(rf"backbone\.\d+\.0{PART}|backbone\.\d+\.1\.weight")
ABPN_OWN = re.compile(rf"backbone\.\d+{PART}")
ABPN = re.compile(rf"{ABPN_OWN.pattern}|backbone\.\d+\.0{PART}")
COMPACT = re.compile(rf"body\.\d*[02468]{PART}|body\.\d*[13579]\.weight")


@dataclass(frozen=True)
class Chain:
    """The names of a network's parts in a file, in the order they run."""

    convs: tuple[str, ...]  # 3x3, padded by one
    slopes: tuple[str, ...] = ()  # PReLUs behind all convolutions but the last; none: ReLU
    clip: str | None = None  # the 1x1 convolution that clips; none: the picture is added

    def voters(self, number: int) -> Iterator[str]:
        """Yield the names of the tensors whose first dimension is the output of a convolution."""
        yield from (f"{self.convs[number]}.weight", f"{self.convs[number]}.bias")
        if number + 1 == len(self.convs):
            yield from () if self.clip is None else (f"{self.clip}.weight", f"{self.clip}.bias")
        elif self.slopes:
            yield f"{self.slopes[number]}.weight"


def etds(state: State, path: Path) -> Network | None:
    """Return the network of an ETDS state in its form for inference, or ``None`` where it is another."""
    if not matches(state, ETDS, ETDS_OWN):
        return None
    foreign = Foreign("ECNUSR ETDS", state, path)
    blocks = foreign.highest(rf"backbone_convs\.(\d+){PART}") + 1
    inner = (f"backbone_convs.{n}" for n in range(blocks))
    return loaded(foreign, Chain(("conv_first", *inner, "conv_last"), clip="conv_clip"))


def ecbsr(state: State, path: Path) -> Network | None:
    """Return the network of an ECBSR state in its plain form, with or without ETDS's transformation, or ``None``."""
    if not matches(state, ECBSR, ECBSR):
        return None
    foreign = Foreign("ECNUSR ECBSR", state, path)
    last, last_slope = (foreign.highest(rf"backbone\.(\d+)\.{part}") for part in (rf"0{PART}", r"1\.weight"))
    kernel = state.get(f"backbone.{last}.0.weight")
    clipped = kernel.shape[2:] == (1, 1) if kernel is not None and kernel.dim() == 4 else last == last_slope + 2
    convs = last if clipped else last + 1
    names = tuple(f"backbone.{n}.0" for n in range(convs))
    slopes = tuple(f"backbone.{n}.1" for n in range(convs - 1))
    return loaded(foreign, Chain(names, slopes, f"backbone.{last}.0" if clipped else None))


def abpn(state: State, path: Path) -> Network | None:
    """Return the network of an ABPN state, with or without ETDS's transformation, or ``None`` where it is another."""
    if not matches(state, ABPN, ABPN_OWN):
        return None
    foreign = Foreign("ECNUSR ABPN", state, path)
    last_block = max(foreign.highest(rf"backbone\.(\d+)\.0{PART}"), 1)  # head and its ReLU are 0 and 1
    blocks = (f"backbone.{n}.0" for n in range(2, last_block + 1))
    clipped = foreign.highest(rf"backbone\.(\d+){PART}") > last_block + 3
    convs = ("backbone.0", *blocks, f"backbone.{last_block + 1}", f"backbone.{last_block + 3}")
    return loaded(foreign, Chain(convs, clip=f"backbone.{last_block + 5}" if clipped else None))


def compact(state: State, path: Path) -> Network | None:
    """Return the network of an SRVGGNetCompact state (Real-ESRGAN's ``srvgg_arch.py``), or ``None`` where it is another."""
    kernels = [value for value in state.values() if value.shape[2:] == (3, 3)]
    if not matches(state, COMPACT, COMPACT) or len(kernels) < 2:  # many networks call their parts so
        return None
    foreign = Foreign("SRVGGNetCompact", state, path)
    last = foreign.highest(rf"body\.(\d+){PART}")
    convs = tuple(f"body.{n}" for n in range(0, last + 1, 2))
    return loaded(foreign, Chain(convs, tuple(f"body.{n}" for n in range(1, last, 2))))


def loaded(foreign: Foreign, chain: Chain) -> Network:
    """Return the plain network that computes what a chain does.

    Raises:
        InputError: a tensor is missing, does not fit or is one too many, or what clips does something else.
    """
    if len(chain.convs) < 2:
        raise foreign.problem(f"it has {len(chain.convs)} convolutions, at least 2 are needed; the file is damaged")
    widths = [outputs(foreign, chain, number) for number in range(len(chain.convs))]
    n_in = colors = foreign.colors(f"{chain.convs[0]}.weight")
    scale = math.isqrt(widths[-1] // max(colors, 1))
    pixels = colors * scale**2
    if widths[-1] - pixels not in ((0,) if chain.clip is None else (0, 1)):
        last = f"{chain.convs[-1]}.weight"
        raise foreign.problem(f"{last} makes {widths[-1]} channels, {colors} x scale x scale are needed; the file is damaged")
    names = ("head", *(f"body.{n}" for n in range(len(chain.convs) - 2)), "tail")
    values: dict[str, Tensor] = {}
    for ours, theirs, width in zip(names, chain.convs, widths, strict=True):
        values[f"{ours}.weight"] = foreign.sized(f"{theirs}.weight", (width, n_in, 3, 3))
        values[f"{ours}.bias"] = foreign.sized(f"{theirs}.bias", (width,))
        n_in = width
    for number, (theirs, width) in enumerate(zip(chain.slopes, widths, strict=False)):
        values[f"slopes.{number}.weight"] = foreign.sized(f"{theirs}.weight", (width,))
    clips = chain.clip is not None
    if chain.clip is not None:
        check_clip(foreign, chain.clip, widths[-1])
        values["tail.weight"] = -values["tail.weight"][:pixels]
        values["tail.bias"] = 1.0 - values["tail.bias"][:pixels]
    check_nothing_else(foreign, chain)
    config = {"scale": scale, "colors": colors, "prelu": int(bool(chain.slopes)), "residual": int(not clips), "clip": int(clips)}
    network = foreign.build("plain", (*widths[:-1], pixels), config)
    network.load_state_dict(values)
    return network


def outputs(foreign: Foreign, chain: Chain, number: int) -> int:
    """Return the number of filters of a convolution, by most of the tensors that tell: one that is damaged is outvoted.

    Raises:
        InputError: none tells.
    """
    found = [foreign.state.get(name) for name in chain.voters(number)]
    sizes = [len(value) for value in found if value is not None and value.dim()]
    if number + 1 < len(chain.convs):
        reader = foreign.state.get(f"{chain.convs[number + 1]}.weight")
        sizes += [reader.shape[1]] if reader is not None and reader.dim() == 4 else []
    if not sizes:
        raise foreign.problem(f"{chain.convs[number]}.weight and {chain.convs[number]}.bias are missing; the file is damaged")
    return Counter(sizes).most_common(1)[0][0]


def check_clip(foreign: Foreign, name: str, width: int) -> None:
    """Check that a 1x1 convolution does nothing but clip.

    Raises:
        InputError: a tensor is missing or holds other numbers.
    """
    weight, bias = foreign.sized(f"{name}.weight", (width, width, 1, 1)), foreign.sized(f"{name}.bias", (width,))
    for part, found, wanted in (("weight", weight[:, :, 0, 0], -torch.eye(width)), ("bias", bias, torch.ones(width))):
        if not torch.equal(found, wanted):
            raise foreign.problem(
                f"{name}.{part} does not clip: minus the identity and biases of 1 (equation 12 of ETDS's paper) are served; "
                "name the file that its repository's converter writes"
            )


def check_nothing_else(foreign: Foreign, chain: Chain) -> None:
    """Check that every tensor of a state was used.

    Raises:
        InputError: one was not.
    """
    convs = (*chain.convs, *(() if chain.clip is None else (chain.clip,)))
    used = {f"{name}.{part}" for name in convs for part in ("weight", "bias")} | {f"{name}.weight" for name in chain.slopes}
    for name in foreign.state:
        if name not in used:
            raise foreign.problem(f"{name} is one tensor too many; it is of another version of that repository")
