"""The VDSR of twtygqyy's ``pytorch-vdsr``: ``input``, ``residual_layer.N.conv``, ``output``, luma in [0, 1]."""

from __future__ import annotations

import re
from pathlib import Path

from sr_deploy.train.networks.network import Network
from sr_deploy.train.weights.public_state import Foreign, State, matches

INNER = r"residual_layer\.(\d+)\.conv\.weight"
EVERY, SOME = re.compile(rf"input\.weight|output\.weight|{INNER}"), re.compile(INNER)


def pytorch_vdsr(state: State, path: Path) -> Network | None:
    """Return the network of such a state, or ``None`` where it is another."""
    if not matches(state, EVERY, SOME):
        return None
    foreign = Foreign("pytorch-vdsr", state, path)
    blocks = foreign.highest(INNER) + 1
    names = ["input.weight", *(f"residual_layer.{n}.conv.weight" for n in range(blocks)), "output.weight"]
    colors = foreign.colors("input.weight")
    network = foreign.build("vdsr", (foreign.features(INNER),) * (blocks + 1) + (colors,), {"colors": colors})
    numbered = {f"conv{n}.weight": name for n, name in enumerate(names, start=1)}
    network.load_state_dict(foreign.values(network, numbered))
    return network
