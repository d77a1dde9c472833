"""What is left of a pruned network is solved to reproduce the dense one, before any training.

Removing filters leaves every convolution with weights that were made for more inputs than there are. Convolution by convolution,
in the order they run, the weights and biases that stay are replaced by the least squares solution of "what the smaller network
reads here gives what the dense convolution writes here, in the channels that are left" (He et al., "Channel Pruning for
Accelerating Very Deep Neural Networks", ICCV 2017; Luo et al., "ThiNet", ICCV 2017). As each is solved with the ones before it
solved already, it also makes up for their error. The solution is pulled towards the weights that survived by a ridge, so that a
direction in which the pictures say nothing stays as it was.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from sr_deploy.compress.pruning.sensitivity import error_of
from sr_deploy.compress.teaching.features import Survivors
from sr_deploy.notes import NOTES
from sr_deploy.progress import progress
from sr_deploy.train.loop.stepper import MicroBatch
from sr_deploy.train.networks.network import Network
from sr_deploy.train.networks.registry import convolutions

PLACES = 24  # rows and columns of each patch that are equations, at most: fewer, and 20 layers lose 0.5 dB
TINY = 1e-9  # what is read may be black
VALUES = 2**28  # of the dense network are kept, at most: 1 GiB
RIDGE = 1e-4  # of the mean square of what is read


def reconstruct(
    small: Network, dense: Network, left: Survivors, batches: Sequence[MicroBatch], unseen: Sequence[MicroBatch]
) -> Network | None:
    """Return a new network, :func:`reconstruct_` made of ``small``; ``None``: on ``unseen`` it is no nearer to ``dense``.

    That happens where the filters that are left are mostly dead: what they write cannot carry what the others did.
    """
    solved = copy.deepcopy(small)
    reconstruct_(solved, dense, left, batches)
    with torch.no_grad():
        wanted = [batch.through(dense) for batch in unseen]
        before, after = (error_of(network, unseen, wanted) for network in (small, solved))
    NOTES.info(f"reconstruction: mean squared error from the dense network {before:.2e} before, {after:.2e} after")
    return solved if after < before else None


def reconstruct_(small: Network, dense: Network, left: Survivors, batches: Sequence[MicroBatch]) -> None:
    """Give ``small`` the weights with which it reproduces ``dense`` best, convolution by convolution, on ``batches``.

    Args:
        small: what is left of ``dense``.
        dense: the network before anything was removed.
        left: which channels of ``dense`` the small network has.
        batches: what both are run on.
    """
    convs, written = convolutions(small), left.written()
    outputs = sum(conv.out_channels for conv in convs.values()) * sum(len(batch.original) for batch in batches)
    places = max(min(PLACES, math.isqrt(VALUES // outputs)), 1)
    with torch.no_grad(), progress("reconstructing layers", len(convs) + 1) as advance:
        wanted = [_results(dense, batch, written, places) for batch in batches]
        advance()
        for name, conv in convs.items():
            pairs = ((_read(small, batch, conv), of_batch.get(name)) for batch, of_batch in zip(batches, wanted, strict=True))
            solve_(conv, ((read, target) for read, target in pairs if read is not None and target is not None), places)
            advance()


def solve_(conv: nn.Conv2d, equations: Iterable[tuple[Tensor, Tensor]], places: int) -> None:
    """Give ``conv`` the weights and bias that best make each target of what is read.

    Args:
        conv: of stride 1, without groups, as large a result as what it reads.
        equations: what it reads (n, c, h, w), and what it is to write in some rows and columns (n, k, ., .); none: it stays.
        places: about how many rows and columns that are.
    """
    weight = conv.weight.flatten(1).double()  # (k, c * kh * kw)
    now = weight if conv.bias is None else torch.cat([weight, conv.bias.double()[:, None]], 1)
    gram, moments = now.new_zeros(now.shape[1], now.shape[1]), now.new_zeros(now.shape[::-1])
    for read, target in equations:
        down, right = steps_of(read, places)
        above, beside = int(conv.padding[0]), int(conv.padding[1])
        padded = functional.pad(read, (beside, beside, above, above))[..., down // 2 :, right // 2 :]
        columns = functional.unfold(padded, conv.kernel_size, conv.dilation, stride=(down, right))
        columns = columns.movedim(1, 0).flatten(1)  # (c * kh * kw, equations)
        if conv.bias is not None:
            columns = torch.cat([columns, torch.ones_like(columns[:1])])
        gram += (columns @ columns.T).double()
        moments += (columns @ target.movedim(1, 0).flatten(1).T).double()
    ridge = RIDGE * gram.diagonal().mean() + TINY
    gram.diagonal().add_(ridge)
    solved = torch.linalg.solve(gram, moments + ridge * now.T).T.to(conv.weight.dtype)
    conv.weight.copy_(solved[:, : weight.shape[1]].reshape(conv.weight.shape))
    if conv.bias is not None:
        conv.bias.copy_(solved[:, -1])


def steps_of(planes: Tensor, places: int) -> tuple[int, int]:
    """Return from how many rows and columns of (n, c, h, w) one is taken, the middle one, for about ``places`` of each."""
    h, w = planes.shape[-2:]
    return max(h // places, 1), max(w // places, 1)


class _Reached(Exception):  # noqa: N818, it is no error
    """A convolution was called: nothing behind it has to be computed."""


def _read(network: Network, batch: MicroBatch, conv: nn.Conv2d) -> Tensor | None:
    """Return what ``conv`` reads of ``batch``; ``None``: another branch runs."""
    read: list[Tensor] = []

    def stop(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        read.append(inputs[0])
        raise _Reached

    handle = conv.register_forward_pre_hook(stop)
    try:
        batch.through(network)
    except _Reached:
        return read[0]
    finally:
        handle.remove()
    return None


def _results(dense: Network, batch: MicroBatch, written: Mapping[str, Tensor], places: int) -> dict[str, Tensor]:
    """Return what every convolution writes in the channels that are ``written``: some rows and columns."""
    found: dict[str, Tensor] = {}
    handles = []
    for name, conv in convolutions(dense).items():

        def keep(_: nn.Module, __: tuple[Tensor, ...], result: Tensor, name: str = name) -> None:
            down, right = steps_of(result, places)
            chosen = result[..., down // 2 :: down, right // 2 :: right]
            found[name] = chosen[:, written[name]] if name in written else chosen.clone()

        handles.append(conv.register_forward_hook(keep))
    batch.through(dense)
    for handle in handles:
        handle.remove()
    return found
