"""A network that computes in float what its int8 graph computes in integers, and can be trained through it.

Weights are rounded as the export stores them: per output channel, symmetric, max |w| / 127. Activations are rounded per tensor,
at the thresholds the graph will have. Scales are float16 numbers, rounded up, and rounding is half to even, so integers are those
that ONNX Runtime makes of the same values.

Gradients go straight through the rounding. Thresholds are learned as step sizes are in LSQ (Esser et al., "Learned Step Size
Quantization", ICLR 2020, section 2.1), with its gradient scale 1 / sqrt(n * 127). What the optimizer moves is the logarithm of
the threshold over its start, as in TQT (Jain et al., "Trained Quantization Thresholds", MLSys 2020): Adam's steps are as large
for a threshold of 0.1 as for one of 20, so they must be relative.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from sr_deploy.errors import InputError
from sr_deploy.thresholds import OUTPUT_KEY, QMAX
from sr_deploy.train.networks.network import Network
from sr_deploy.train.networks.registry import build_like, convolutions

QMIN = -128  # QuantizeLinear uses all of int8
LEAST_HALF = 2.0**-24
RATE = 50.0  # how much faster a threshold moves, relatively, than a weight: TQT learns them at 1e-2 and 1e-6


def rounded_up(scale: Tensor) -> Tensor:
    """Return the least float16 numbers that are not below ``scale`` and not zero, as float32; beyond float16, ``scale``."""
    half = scale.to(torch.float16)
    above = (half.view(torch.int16) + 1).view(torch.float16)  # the next number: positive ones are in the order of their bits
    up = torch.where(half.double() < scale.double(), above, half).float().clamp(min=LEAST_HALF)
    return torch.where(up.isfinite(), up, scale.float())


def integers_of(values: Tensor, scale: Tensor, least: int) -> Tensor:
    """Return ``values`` over ``scale`` as whole numbers from ``least`` to 127, float32, halves to even."""
    return (values / scale).round_().clamp_(least, QMAX)


def weight_scale(weight: Tensor) -> Tensor:
    """Return the scale of each output channel of (out, in, kh, kw): float32 (out, 1, 1, 1)."""
    peak = weight.detach().abs().amax(dim=(1, 2, 3), keepdim=True)
    return rounded_up(torch.where(peak > 0.0, peak / QMAX, torch.ones_like(peak)))


class _RoundedWeight(torch.autograd.Function):
    """int8 weights as float32; the gradient goes straight through."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, weight: Tensor) -> Tensor:
        scale = weight_scale(weight)
        return integers_of(weight, scale, -QMAX) * scale

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> Tensor:
        return gradients[0]


class _RoundedActivation(torch.autograd.Function):
    """int8 activations as float32, with LSQ's gradients (equations 3 and 5)."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, learned: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(x, scale)
        return integers_of(x, scale, QMIN) * scale

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        x, scale = cast(tuple[Tensor, Tensor], ctx.saved_tensors)  # type: ignore[attr-defined]
        (gradient,) = gradients
        level = x / scale
        inside = (level > QMIN) & (level < QMAX)
        slope = torch.where(inside, level.round() - level, level.clamp(QMIN, QMAX))
        strength = 1.0 / math.sqrt(x[0].numel() * QMAX)
        return gradient * inside, (gradient * slope).sum(dtype=torch.float64) * strength, None


class Threshold(nn.Module):
    """Rounds activations, float32 of any shape, at a threshold that is learned."""

    start: Tensor

    def __init__(self, start: float) -> None:
        super().__init__()
        self.register_buffer("start", torch.tensor(start, dtype=torch.float64))
        self.moved = nn.Parameter(torch.zeros(()))

    @property
    def value(self) -> Tensor:
        """The largest represented magnitude: float64 ()."""
        return self.start * torch.exp(RATE * self.moved.double())

    def forward(self, x: Tensor) -> Tensor:
        learned = self.value / QMAX
        result: Tensor = _RoundedActivation.apply(x.float(), learned, rounded_up(learned.detach()))  # type: ignore[no-untyped-call]
        return result


class FakeQuantizedConv2d(nn.Conv2d):
    """A convolution with the weights of another one, which computes what its int8 form will."""

    def __init__(self, conv: nn.Conv2d, *, source: float | None, end: float | None, integers: bool) -> None:
        """Take over ``conv``'s weights.

        Args:
            conv: what is computed.
            source: threshold of its input, where that is quantized.
            end: threshold of its output, where that has one of its own.
            integers: whether its weights are int8.
        """
        shape = (conv.in_channels, conv.out_channels, cast(tuple[int, int], conv.kernel_size))
        with torch.device("meta"):
            super().__init__(*shape, padding=cast(tuple[int, int], conv.padding), bias=conv.bias is not None)
        self.weight, self.bias, self.integers = conv.weight, conv.bias, integers
        self.source = None if source is None else Threshold(source)
        self.end = None if end is None else Threshold(end)

    def forward(self, input: Tensor) -> Tensor:
        x = input if self.source is None else self.source(input)
        weight = cast(Tensor, _RoundedWeight.apply(self.weight)) if self.integers else self.weight  # type: ignore[no-untyped-call]
        result: Tensor = self._conv_forward(x, weight, self.bias)
        return result if self.end is None else cast(Tensor, self.end(result))


def fake_quantize(network: Network, thresholds: Mapping[str, float], keep: Collection[str]) -> Network:
    """Return a copy of ``network`` that computes as its int8 graph does, of the same class.

    Args:
        network: as it is exported, without batch normalisation.
        thresholds: of each quantized value, by the convolution that reads it, or ``NAME.output`` (see ``placement``).
        keep: convolutions that compute in float; one of them that has a threshold reads int8 activations.

    Raises:
        InputError: a convolution has no threshold, or a threshold or a kept name has no convolution.
    """
    clone = copy.deepcopy(network)
    found = convolutions(clone)
    for name in (*(n.removesuffix(OUTPUT_KEY) for n in thresholds), *keep):
        if name not in found:
            raise InputError(f"{name}: no convolution of this network; quantize it again with sr-prune --qat")
    for name, conv in found.items():
        integers = name not in keep
        if integers and name not in thresholds:
            raise InputError(f"{name}: has no threshold; quantize the network again with sr-prune --qat")
        if (conv.stride, conv.dilation, conv.groups) != ((1, 1), (1, 1), 1):
            raise InputError(f"{name}: strides, dilations and groups are not served by --qat; leave it out")
        ends = thresholds.get(f"{name}{OUTPUT_KEY}")
        clone.set_submodule(name, FakeQuantizedConv2d(conv, source=thresholds.get(name), end=ends, integers=integers))
    return clone.train(network.training)


def unquantize(network: Network) -> Network:
    """Return a new network with the float32 weights under a fake-quantized one."""
    plain = build_like(network)
    state = network.state_dict()
    plain.load_state_dict({name: state[name] for name in plain.state_dict()})
    return plain.train(network.training)


def thresholds_in(network: nn.Module) -> dict[str, float]:
    """Return the thresholds of a fake-quantized network, by the names that the export uses."""
    found = {}
    for name, conv in _quantized(network).items():
        for key, threshold in ((name, conv.source), (f"{name}{OUTPUT_KEY}", conv.end)):
            if threshold is not None:
                found[key] = float(threshold.value.detach())
    return found


def kept_in(network: nn.Module) -> tuple[str, ...]:
    """Return the convolutions of a fake-quantized network that compute in float."""
    return tuple(name for name, conv in _quantized(network).items() if not conv.integers)


def _quantized(network: nn.Module) -> dict[str, FakeQuantizedConv2d]:
    return {name: conv for name, conv in convolutions(network).items() if isinstance(conv, FakeQuantizedConv2d)}
