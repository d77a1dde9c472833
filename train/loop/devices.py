"""What a run computes on: the device, the precision, this process's place among several, and the compiler."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.strategies.ddp import DDPStrategy

from sr_deploy.errors import InputError, MachineError

Precision = Literal["fp32", "bf16", "fp16"]
FABRIC_NAMES: dict[Precision, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "fp32": "32-true",
    "bf16": "bf16-mixed",
    "fp16": "16-mixed",
}


@dataclass(frozen=True)
class Place:
    """Which of the processes of a run this is; process 0 alone writes and speaks."""

    rank: int = 0
    count: int = 1


class Neighbours(LightningEnvironment):
    """Tells Fabric of processes on one machine that are there already and have met."""

    creates_processes_externally = True

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.set_world_size(place.count)
        self.set_global_rank(place.rank)

    def local_rank(self) -> int:
        return self.global_rank()

    def node_rank(self) -> int:
        return 0  # whatever a cluster's NODE_RANK says of this machine


def resolve_device(device: str) -> str:
    """Return ``cpu`` or ``cuda`` for ``auto``."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def make_fabric(device: str, precision: Precision, place: Place, *, branched: bool = False) -> Fabric:
    """Return Fabric on this process's device, ready to set up networks; ``branched``: a step may leave some of their weights out.

    Raises:
        InputError: the device does not know the precision, or there are fewer devices than processes.
    """
    device = resolve_device(device)
    check_devices(device, precision, place.count)
    for name in ("lightning.fabric", "lightning.pytorch.utilities.rank_zero"):  # they tell what --precision says
        logging.getLogger(name).setLevel(logging.WARNING)
    if place.count == 1:
        return Fabric(accelerator=device, devices=1, precision=FABRIC_NAMES[precision])
    strategy = DDPStrategy(cluster_environment=Neighbours(place), gradient_as_bucket_view=True, find_unused_parameters=branched)
    fabric = Fabric(accelerator=device, devices=place.count, strategy=strategy, precision=FABRIC_NAMES[precision])
    with _same_threads():
        fabric.launch()
    return fabric


def check_devices(device: str, precision: Precision, count: int) -> None:
    """Check that ``count`` processes can compute in ``precision`` on ``device``.

    Raises:
        InputError: they cannot.
    """
    device = resolve_device(device)
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch finds no CUDA device here; use --device cpu")
    if device == "cuda" and count > torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise InputError(f"--devices {count}: torch finds {found} CUDA device(s) here; give at most that many, or --device cpu")
    if precision == "fp16" and device == "cpu":
        raise InputError("--precision fp16: trains on CUDA only, this device is the CPU; use bf16 or fp32")


def check_compiler(device: torch.device) -> None:
    """Compile and run one addition where the network will be.

    Raises:
        MachineError: torch.compile finds no compiler, or not one that works.
    """
    try:
        torch.compile(lambda x: x + 1.0)(torch.zeros(8, device=device))
    except Exception as err:  # of dynamo, its backend, the compiler or Triton: they share no class
        reason = next((line.strip() for line in str(err).splitlines() if line.strip()), type(err).__name__)
        raise MachineError(
            f"--compile: torch.compile does not work here ({reason}); install a C++ compiler (g++), or leave --compile out"
        ) from err


@contextmanager
def _same_threads() -> Iterator[None]:
    """Keep the number of threads, which Fabric's launcher sets by the number of processes alone."""
    threads, variable = torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if variable is None:
            os.environ.pop("OMP_NUM_THREADS", None)
