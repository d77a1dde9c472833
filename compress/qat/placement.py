"""Where the exported int8 graph will quantize, read off the PyTorch network: the rules of ``quantize.py`` in export.

The network is traced with ``torch.fx``. The input of every int8 convolution is quantized; the output of one that ends a residual
block, at a threshold of its own. A convolution kept in float reads int8 activations where an int8 convolution and a ReLU stand
in front of it, unless it was named: then its input stays float too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from torch import nn
from torch.fx import Node, Tracer

from sr_deploy.errors import InputError
from sr_deploy.thresholds import OUTPUT_KEY
from sr_deploy.train.networks.network import Network
from sr_deploy.train.networks.registry import convolutions

FUNCTIONS = {"relu": "relu", "add": "add", "iadd": "add"}
MODULES: tuple[tuple[type[nn.Module], str], ...] = (
    (nn.Conv2d, "conv"),
    (nn.ReLU, "relu"),
    (nn.PReLU, "prelu"),
    (nn.Identity, "identity"),
)


@dataclass(frozen=True)
class Placement:
    """What an int8 graph of a network will hold."""

    pairs: tuple[str, ...]  # names of thresholds: a convolution's for its input, ``NAME.output`` for what ends a block
    keep: tuple[str, ...]  # convolutions that compute in float


def placement(network: Network, named: Collection[str] = ()) -> Placement:
    """Return where an int8 graph of ``network`` quantizes, over all its scales, in the order the convolutions run.

    Args:
        network: as it is exported, without batch normalisation.
        named: convolutions to keep in float beside the first and the last one.

    Raises:
        InputError: a name is no convolution of the network, or nothing is left to quantize.
    """
    known = convolutions(network)
    for name in named:
        if name not in known:
            raise InputError(f"--keep {name}: no convolution of this network; known: {', '.join(known)}")
    sites = {site.name: site for one in network.at_each_scale() for site in _sites(one)}
    keep = {name for name, site in sites.items() if site.at_an_end} | set(named)
    pairs = []
    for name, site in sites.items():
        if name not in keep or (name not in named and site.behind is not None and site.behind not in keep):
            pairs.append(name)
        if name not in keep and site.ends_block:
            pairs.append(f"{name}{OUTPUT_KEY}")
    if keep >= set(sites):
        raise InputError("--keep: leaves no convolution to quantize; the first and the last one stay in float anyway")
    return Placement(tuple(pairs), tuple(name for name in sites if name in keep))


@dataclass(frozen=True)
class _Site:
    """One convolution and what is around it."""

    name: str
    at_an_end: bool  # the first or the last one
    behind: str | None  # the convolution in front, where nothing but a ReLU is between
    ends_block: bool  # as ``export.graph.residual_outputs`` has it


def _sites(network: Network) -> Iterator[_Site]:
    modules = dict(network.named_modules())
    graph = Tracer().trace(network, network.fixed_inputs())
    found = [node for node in graph.nodes if _kind(node, modules) == "conv"]
    for node in found:
        source = _source(node, modules)
        before = _source(source, modules) if _kind(source, modules) == "relu" else source
        alone = before is not source and _kind(before, modules) == "conv" and len(_readers(before, modules)) == 1
        yield _Site(
            name=str(node.target),
            at_an_end=node in (found[0], found[-1]),
            behind=str(before.target) if alone else None,
            ends_block=_kind(source, modules) in ("relu", "prelu") and _is_added_alone(node, modules),
        )


def _is_added_alone(node: Node, modules: dict[str, nn.Module]) -> bool:
    """Return whether one addition alone reads a node, and it does not make the picture."""
    readers = _readers(node, modules)
    if [_kind(reader, modules) for reader in readers] != ["add"]:
        return False
    return [_kind(reader, modules) for reader in _readers(readers[0], modules)] != ["output"]


def _kind(node: Node, modules: dict[str, nn.Module]) -> str:
    if node.op == "call_module":
        module = modules[str(node.target)]
        return next((kind for cls, kind in MODULES if isinstance(module, cls)), "other")
    name = node.target if isinstance(node.target, str) else node.target.__name__
    return FUNCTIONS.get(name, "other") if node.op in ("call_function", "call_method") else node.op


def _source(node: Node, modules: dict[str, nn.Module]) -> Node:
    """Return what a node of one input reads, looking through what does nothing."""
    source = node.all_input_nodes[0]
    while _kind(source, modules) == "identity":
        source = source.all_input_nodes[0]
    return source


def _readers(node: Node, modules: dict[str, nn.Module]) -> list[Node]:
    """Return the nodes that read a value, looking through what does nothing."""
    found: list[Node] = []
    for user in node.users:
        found += _readers(user, modules) if _kind(user, modules) == "identity" else [user]
    return found
