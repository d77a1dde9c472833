"""SRResNet and its relatives: leftthomas/SRGAN, twtygqyy's pytorch-SRResNet, and BasicSR's MSRResNet. All read RGB in [0, 1]."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from sr_deploy.train.networks.msrresnet import msrresnet_widths
from sr_deploy.train.networks.network import Network
from sr_deploy.train.networks.srresnet import INSTANCE, srresnet_widths
from sr_deploy.train.weights.public_state import Foreign, Found, State, both, matches, normalisation

PART, NORM = r"\.(?:weight|bias)", r"\.(?:weight|bias|running_mean|running_var|num_batches_tracked)"

SRGAN_OWN = re.compile(rf"block\d+\.(?:conv[12]{PART}|bn[12]{NORM}|prelu\.weight)")
SRGAN = re.compile(rf"{SRGAN_OWN.pattern}|block\d+\.0{PART}|block\d+\.\d+{NORM}|block\d+\.\d+\.(?:conv{PART}|prelu\.weight)")
SRGAN_FIRST = 2  # block1 is the head

TWTY_OWN = re.compile(rf"residual\.(\d+)\.(?:conv[12]\.weight|(?:bn|in)[12]{NORM})")
TWTY = re.compile(rf"conv_(?:input|mid|output)\.weight|{TWTY_OWN.pattern}|bn_mid{NORM}|upscale4x\.[03]\.weight")
TWTY_SLOPE = 0.2  # of LeakyReLU, which is not in the file

MSR_OWN = re.compile(rf"upconv[12]{PART}|conv_hr{PART}")
MSR = re.compile(rf"conv_first{PART}|body\.\d+\.conv[12]{PART}|{MSR_OWN.pattern}|conv_last{PART}")


def basicsr_msrresnet(state: State, path: Path) -> Network | None:
    """Return the network of a BasicSR MSRResNet state, or ``None`` where it is another."""
    if not matches(state, MSR, MSR_OWN):
        return None
    foreign = Foreign("BasicSR MSRResNet", state, path)
    blocks = foreign.highest(rf"body\.(\d+)\.conv[12]{PART}") + 1
    features = foreign.features(r"body\.\d+\.conv[12]\.weight")
    steps = foreign.highest(rf"upconv([12]){PART}")
    scale = foreign.scale([f"upconv{n}.weight" for n in range(1, steps + 1)], features)
    config = {"scale": scale, "colors": foreign.colors("conv_first.weight")}
    network = foreign.build("msrresnet", msrresnet_widths(blocks=blocks, features=features, **config), config)
    names = {
        **{"head": "conv_first", "hr": "conv_hr", "tail": "conv_last"},
        **{f"body.{i}.conv{n}": f"body.{i}.conv{n}" for i in range(blocks) for n in (1, 2)},
        **{f"up.{n}": f"upconv{n + 1}" for n in range(steps)},
    }
    network.load_state_dict(foreign.values(network, {k: v for pair in names.items() for k, v in both(*pair).items()}))
    return network


def leftthomas_srgan(state: State, path: Path) -> Network | None:
    """Return the generator of a leftthomas/SRGAN state, or ``None`` where it is another network.

    ``block7`` ends in batch normalisation; in the repository's older form (its issue 39), in a PReLU.
    """
    if not matches(state, SRGAN, SRGAN_OWN):
        return None
    foreign = Foreign("leftthomas/SRGAN", state, path)
    last = foreign.highest(r"block(\d+)\..*")
    blocks, end, up = last - SRGAN_FIRST - 1, f"block{last - 1}", f"block{last}"
    steps = foreign.highest(rf"{up}\.(\d+)\.(?:conv{PART}|prelu\.weight)") + 1
    features = foreign.features(r"block\d+\.conv[12]\.weight")
    scale = foreign.scale([f"{up}.{n}.conv.weight" for n in range(steps)], features)
    older = not any(f"{end}.1.{part}" in state for part in ("bias", "running_mean", "running_var"))
    config = {"scale": scale, "colors": foreign.colors("block1.0.weight"), "norm": 1, "end_act": int(older), "tanh": 1}
    widths = srresnet_widths(blocks=blocks, features=features, scale=scale, colors=config["colors"])
    network = foreign.build("srresnet", widths, config)
    places = [(f"body.{i}", f"block{i + SRGAN_FIRST}") for i in range(blocks)]
    normed = [
        (f"{ours}.conv{n}", f"{ours}.norm{n}", f"{theirs}.conv{n}", f"{theirs}.bn{n}") for ours, theirs in places for n in (1, 2)
    ]
    names = {
        **{"head_act.weight": "block1.1.weight", **both("head", "block1.0"), **both("tail", f"{up}.{steps}")},
        **{f"{ours}.act.weight": f"{theirs}.prelu.weight" for ours, theirs in places},
        **{name: value for n in range(steps) for name, value in both(f"up.{n}", f"{up}.{n}.conv").items()},
        **{f"up_act.{n}.weight": f"{up}.{n}.prelu.weight" for n in range(steps)},
    }
    if older:
        names |= {"body_end_act.weight": f"{end}.1.weight", **both("body_end", f"{end}.0")}
    else:
        normed.append(("body_end", "body_end_norm", f"{end}.0", f"{end}.1"))
    network.load_state_dict(with_norms(foreign, network, names, normed))
    return network


def with_norms(
    foreign: Foreign, network: Network, names: dict[str, str], normed: list[tuple[str, str, str, str]]
) -> dict[str, Tensor]:
    """Return a state for ``network``; ``normed`` names convolutions with biases and their norms: our two, their two.

    Ours have no bias in front of batch normalisation, so it is taken from the mean that is subtracted behind it.

    Raises:
        InputError: a tensor is missing or does not fit.
    """
    for conv, norm, their_conv, their_norm in normed:
        names = {**names, f"{conv}.weight": f"{their_conv}.weight", **normalisation(norm, their_norm)}
    values = foreign.values(network, names)
    for _, norm, their_conv, _ in normed:
        mean = values[f"{norm}.running_mean"]
        values[f"{norm}.running_mean"] = mean - foreign.sized(f"{their_conv}.bias", mean.shape)
    return values


def pytorch_srresnet(state: State, path: Path) -> Found | None:
    """Return the network of a pytorch-SRResNet state, or ``None`` where it is another.

    Its first form has batch normalisation (``bn1``), its later one instance normalisation (``in1``), by the picture's own
    statistics, also where PyTorch before 0.4 wrote running ones into the file.
    """
    if not matches(state, TWTY, TWTY_OWN):
        return None
    foreign = Foreign("pytorch-SRResNet", state, path)
    kind = "in" if any(".in1." in name or ".in2." in name for name in state) else "bn"
    blocks = foreign.highest(TWTY_OWN.pattern) + 1
    features = foreign.features(r"residual\.\d+\.conv[12]\.weight")
    scale = foreign.scale(["upscale4x.0.weight", "upscale4x.3.weight"], features)
    config = {"scale": scale, "colors": foreign.colors("conv_input.weight"), "norm": INSTANCE if kind == "in" else 1}
    widths = srresnet_widths(blocks=blocks, features=features, scale=scale, colors=config["colors"])
    network = foreign.build("srresnet", widths, config)
    convs = {"head": "conv_input", "body_end": "conv_mid", "up.0": "upscale4x.0", "up.1": "upscale4x.3", "tail": "conv_output"}
    convs |= {f"body.{i}.conv{n}": f"residual.{i}.conv{n}" for i in range(blocks) for n in (1, 2)}
    norms = {f"body.{i}.norm{n}": f"residual.{i}.{kind}{n}" for i in range(blocks) for n in (1, 2)} | {"body_end_norm": "bn_mid"}
    names = {f"{ours}.weight": f"{theirs}.weight" for ours, theirs in convs.items()}
    names |= {k: v for pair in norms.items() for k, v in normalisation(*pair, running=kind == "bn").items()}
    values = foreign.values(network, names)
    values |= {name: torch.full_like(value, TWTY_SLOPE) for name, value in values.items() if "act" in name}
    network.load_state_dict(values)
    return Found(network, {"activation": f"LeakyReLU {TWTY_SLOPE:g} (its published form, not in the file)"})
