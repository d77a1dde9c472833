"""The fake-quantized network: the integers of the definition, LSQ's gradients, and back to the float network."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sr_deploy.compress.qat.fake_quantization import (
    RATE,
    FakeQuantizedConv2d,
    Threshold,
    fake_quantize,
    integers_of,
    kept_in,
    rounded_up,
    thresholds_in,
    unquantize,
    weight_scale,
)
from sr_deploy.errors import InputError
from tests.helpers.networks import vdsr

Floats = NDArray[np.float32]
THRESHOLDS = {"conv2": 0.75, "conv3": 0.5}


def values(count: int = 4000) -> Tensor:
    return torch.randn(2, count // 2, generator=torch.Generator().manual_seed(0))


def quantize_linear(x: Floats, scale: np.float32) -> NDArray[np.int8]:
    """QuantizeLinear of opset 17 with zero point 0: half to even, then saturated to int8."""
    found: NDArray[np.int8] = np.clip(np.rint(x / scale), -128, 127).astype(np.int8)
    return found


def test_activations_are_the_integers_of_quantize_linear() -> None:
    threshold, x = Threshold(1.7), values()
    x[0, :3] = torch.tensor([-1e6, 1e6, 0.0])  # saturated on both sides
    scale = np.float32(rounded_up(torch.tensor(1.7 / 127, dtype=torch.float64)).item())
    x[1, :200] = (torch.arange(200) - 100.5) * float(scale)  # halves
    with torch.no_grad():
        found = threshold(x).numpy()
    expected = quantize_linear(x.numpy(), scale)
    assert expected.min() == -128 and expected.max() == 127
    assert np.array_equal(found, expected.astype(np.float32) * scale)


def test_weights_are_rounded_by_channel_and_never_to_minus_128() -> None:
    weight = torch.randn(5, 3, 3, 3, generator=torch.Generator().manual_seed(1)) * torch.tensor(
        [1e-8, 0.01, 1.0, 30.0, 0.0]
    ).reshape(5, 1, 1, 1)
    integers = integers_of(weight, weight_scale(weight), -127)
    assert integers[1:4].abs().amax(dim=(1, 2, 3)).tolist() == [127.0] * 3
    assert not integers[4].any() and bool((weight_scale(weight)[4] == 1.0).all())
    assert bool(((integers * weight_scale(weight) - weight).abs() <= 0.5001 * weight_scale(weight)).all())


@pytest.mark.parametrize("scale", [1.0, 1.0 + 1e-7, 0.1, 1e-9, 3e-6, 65504.0, 65505.0, 1e30, 1.0 + 2.0**-11 + 1e-12, 6.1e-5])
def test_scales_are_the_least_float16_numbers_not_below(scale: float) -> None:
    found = float(rounded_up(torch.tensor(scale, dtype=torch.float64)))
    if scale > 65504.0:
        assert found == np.float32(scale)
        return
    halves = np.arange(1, 0x7C00, dtype=np.uint16).view(np.float16).astype(np.float64)  # all that are finite and above 0
    assert found == halves[np.searchsorted(halves, scale)]


def surrogate(x: Tensor, scale: Tensor, at: float) -> Tensor:
    """What LSQ differentiates: rounding adds a constant to what is inside the range (section 2.1)."""
    level = x / at
    rest = torch.where((level > -128) & (level < 127), level.round() - level, torch.zeros_like(level))
    return ((x / scale).clamp(-128, 127) + rest) * scale


def test_threshold_gradient_is_the_difference_quotient_of_lsqs_definition() -> None:
    threshold, x = Threshold(0.9), values()
    towards = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    (threshold(x) * towards).sum().backward()
    at = float(rounded_up(torch.tensor(0.9 / 127, dtype=torch.float64)))
    step, wide = 1e-7 * at, x.double()
    ahead, behind = ((surrogate(wide, torch.tensor(at + d, dtype=torch.float64), at) * towards).sum() for d in (step, -step))
    slope = float(ahead - behind) / (2 * step)
    # d scale / d moved is RATE * scale; the gradient scale counts the values of one sample
    expected = slope * RATE * 0.9 / 127 / math.sqrt(x[0].numel() * 127)
    assert threshold.moved.grad is not None
    # the quotient is exact but for values within 1e-7 of a clipping edge; x is float32 in one and float64 in the other
    assert float(threshold.moved.grad) == pytest.approx(expected, rel=1e-3)


def test_activation_gradient_is_one_inside_and_zero_where_clipped() -> None:
    x = torch.tensor([-3.0, -0.5, 0.0, 0.4, 0.99, 1.2], requires_grad=True)
    Threshold(1.0)(x[None]).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 1.0, 0.0]


def test_weight_gradient_goes_straight_through() -> None:
    conv = nn.Conv2d(2, 3, 3, padding=1)
    rounded, x = FakeQuantizedConv2d(conv, source=None, end=None, integers=True), torch.rand(1, 2, 6, 6)
    rounded(x).sum().backward()
    assert conv.weight.grad is not None
    found = conv.weight.grad.clone()
    conv.zero_grad()
    conv(x).sum().backward()
    assert torch.equal(found, conv.weight.grad)


def test_a_threshold_that_clips_grows_and_one_that_is_too_wide_shrinks() -> None:
    x = values().abs()
    for start, grows in ((0.5, True), (300.0, False)):
        threshold = Threshold(start)
        optimizer = torch.optim.Adam(threshold.parameters(), lr=1e-2)
        for _ in range(10):
            optimizer.zero_grad()
            (threshold(x) - x).square().mean().backward()
            optimizer.step()
        assert (float(threshold.value.detach()) > start) == grows


def test_thresholds_start_exactly_where_they_are_put() -> None:
    start = {"conv2": 0.1 + 1e-9, "conv3": math.pi, "conv2.output": 7.0}
    assert thresholds_in(fake_quantize(vdsr(6, 6, 1).eval(), start, ("conv1",))) == start


def test_kept_convolutions_compute_in_float() -> None:
    plain, x = vdsr(6, 6, 1).eval(), torch.rand(1, 1, 12, 12)
    every = ("conv1", "conv2", "conv3")
    rounded = fake_quantize(plain, {}, every)
    assert kept_in(rounded) == every
    with torch.no_grad():
        assert torch.equal(rounded(x), plain(x))
        assert not torch.equal(fake_quantize(plain, THRESHOLDS, ("conv1", "conv3"))(x), plain(x))


def test_the_network_given_is_not_touched_and_comes_back() -> None:
    plain = vdsr(6, 6, 1).eval()
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    rounded = fake_quantize(plain, THRESHOLDS, ("conv1", "conv3"))
    back = unquantize(rounded)
    assert type(back) is type(plain) and not back.training
    assert {name: value.tolist() for name, value in back.state_dict().items()} == {n: v.tolist() for n, v in before.items()}
    next(iter(rounded.parameters())).data.add_(1.0)
    assert all(torch.equal(value, before[name]) for name, value in plain.state_dict().items())


@pytest.mark.parametrize(
    ("thresholds", "keep", "message"),
    [
        ({"conv2": 1.0}, ("conv1",), "conv3: has no threshold; quantize the network again with sr-prune --qat"),
        ({**THRESHOLDS, "conv9": 1.0}, ("conv1",), "conv9: no convolution of this network"),
        ({**THRESHOLDS, "conv9.output": 1.0}, ("conv1",), "conv9: no convolution of this network"),
        (THRESHOLDS, ("conv1", "other"), "other: no convolution of this network"),
    ],
)
def test_what_does_not_fit_the_network_is_refused(thresholds: dict[str, float], keep: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fake_quantize(vdsr(6, 6, 1).eval(), thresholds, keep)
