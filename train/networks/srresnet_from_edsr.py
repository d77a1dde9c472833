"""An SRResNet that begins as an EDSR: both are a head, residual blocks, a long skip and sub-pixel convolutions.

Where SRResNet has more, it begins as if it had not: the 9x9 convolutions hold the 3x3 ones in their centre, a PReLU is ReLU
(slope 0) inside the blocks and the identity (slope 1) elsewhere, and batch normalisation takes over the bias of its convolution.
So the new network computes the same picture, and everything that it has more can learn (function-preserving growth in the spirit
of Net2Net, Chen et al., ICLR 2016).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sr_deploy.train.networks.edsr import DIV2K_MEAN

if TYPE_CHECKING:
    from sr_deploy.train.networks.srresnet import SRResNet

State = Mapping[str, Tensor]


def is_edsr(state: State) -> bool:
    """Return whether a state is that of an EDSR (its head is 3x3 and nothing follows it)."""
    head = state.get("head.weight")
    return head is not None and head.shape[-1] == 3 and {"up.0.weight", "body_end.weight"} <= set(state)


def srresnet_state(state: State, network: SRResNet, *, res_scale: float = 1.0) -> dict[str, Tensor]:
    """Return the state of ``network``'s form that computes what the EDSR of ``state`` with that residual scaling does.

    An RGB EDSR's mean shift goes into the biases of head and tail: exact, but for what sees the picture's border.
    Norms are written with mean 0 and variance 1; see ``settle_norms_`` before training.
    """
    normed = network.config.norm == 1
    result = {name: value for name, value in state.items() if name.startswith("up.")}
    for name in ("head", "tail"):
        result[f"{name}.weight"] = nn.functional.pad(state[f"{name}.weight"], (3, 3, 3, 3))
        result[f"{name}.bias"] = state[f"{name}.bias"]
    if len(result["tail.bias"]) == 3:
        mean = torch.tensor(DIV2K_MEAN)
        result["head.bias"] = result["head.bias"] - state["head.weight"].sum((2, 3)) @ mean
        result["tail.bias"] = result["tail.bias"] + mean
    result["head_act.weight"] = torch.ones(1)
    result |= {f"up_act.{n}.weight": torch.ones(1) for n in range(len(network.config.factors))}
    blocks = sorted({int(name.split(".")[1]) for name in state if name.startswith("body.")})
    pairs = [(f"body.{n}.conv{k}", f"body.{n}.norm{k}") for n in blocks for k in (1, 2)]
    for conv, norm in (*pairs, ("body_end", "body_end_norm")):
        factor = res_scale if conv.endswith("conv2") else 1.0
        result[f"{conv}.weight"] = state[f"{conv}.weight"] * factor
        bias = state[f"{conv}.bias"] * factor
        if normed:
            zero, one = torch.zeros_like(bias), torch.ones_like(bias)
            eps = float(network.get_submodule("body_end_norm").eps)  # type: ignore[arg-type]
            values = {"weight": (one + eps).sqrt(), "bias": bias, "running_mean": zero, "running_var": one}
            values["num_batches_tracked"] = torch.tensor(0)
            result |= {f"{norm}.{part}": value for part, value in values.items()}
        else:
            result[f"{conv}.bias"] = bias
    return result | {f"body.{n}.act.weight": torch.zeros(1) for n in blocks}


def settle_norms_(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Give every batch norm the statistics of ``batches`` (n, c, h, w), and scale and shift that keep what it computes.

    In training mode a norm divides by the statistics of its batch: only if those are near the stored ones does the network begin
    training where it stands.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    sums = {norm: torch.zeros(3, norm.num_features, dtype=torch.float64) for norm in norms}

    def count(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].double().transpose(0, 1).flatten(1)  # (channels, values)
        sums[norm] += torch.stack([torch.full((len(x),), x.shape[1]).double(), x.sum(1), x.square().sum(1)])  # type: ignore[index]

    hooks = [norm.register_forward_pre_hook(count) for norm in norms]
    was_training = network.training
    network.eval()
    with torch.no_grad():
        for batch in batches:
            network(batch)
    network.train(was_training)
    for hook in hooks:
        hook.remove()
    for norm, (number, total, squares) in sums.items():
        mean = total / number
        variance = (squares / number - mean.square()).clamp_min(0.0)
        _restate_(norm, mean, variance)


def _restate_(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    """Change the stored statistics and, with them, scale and shift, so that the norm computes the same."""
    assert norm.running_mean is not None and norm.running_var is not None
    with torch.no_grad():
        gain = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        norm.bias.copy_(norm.bias + gain * (mean - norm.running_mean))
        norm.weight.copy_(gain * (variance + norm.eps).sqrt())
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
