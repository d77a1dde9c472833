"""Training throughput of the whole loop against a bare one: forward, backward, optimizer step on one batch that lies ready.

``python benchmarks/training.py [--steps 5] [--rounds 5] [--networks edsr vdsr] [--device cuda] [--precision bf16]``

The loop is ``sr-train``'s own, with pictures cut, turned and sent to the device, gradients clipped and looked at, losses
averaged and reported; validation and saving lie outside. Both take turns in one process: after some of its steps the loop
reports, and as many bare ones are timed there. So what else the machine does meets both, and the ratio is what counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from sr_deploy.console import run, table
from sr_deploy.files import write_text
from sr_deploy.options import positive_int, thread_count, worker_count
from sr_deploy.runtime.bench.machine import machine
from sr_deploy.train.data.batches import DataConfig, PatchSource
from sr_deploy.train.loop.devices import Place, make_fabric
from sr_deploy.train.loop.loop import Run, train
from sr_deploy.train.loop.optimizers import make_optimizer
from sr_deploy.train.loop.recipe import Recipe
from sr_deploy.train.loop.status import Status
from sr_deploy.train.losses.expression import loss_from
from sr_deploy.train.networks.network import Network
from sr_deploy.train.networks.registry import build, card_of

ROOT = Path(__file__).resolve().parent.parent
ADAM = {"optimizer": "adam", "lr": 1e-4, "weight_decay": 0.0, "schedule": "halve", "clip_mode": "none"}
WARM = 2  # steps of each that are not counted


@dataclass(frozen=True)
class Case:
    """A network and how its paper trains it."""

    arch: str
    scale: int
    patch: int  # of the enlarged picture
    batch: int
    loss: str
    recipe: dict[str, object] = field(default_factory=dict)


CASES = {"edsr": Case("edsr", 2, 96, 16, "l1", ADAM), "vdsr": Case("vdsr", 2, 41, 64, "mse")}


class Clock(NamedTuple):
    """Seconds of wall time, and of CPU time of all threads together, which other programs on the machine lengthen less."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Clock:
        """Return the time."""
        return cls(time.perf_counter(), time.process_time())

    def __sub__(self, other: Clock) -> Clock:
        return Clock(self.wall - other.wall, self.cpu - other.cpu)


class Turns:
    """A reporter that counts the loop's steps and times bare ones in between."""

    def __init__(self, bare: Callable[[], None], wait: Callable[[], None], steps: int) -> None:
        self.bare, self.wait, self.steps = bare, wait, steps
        self.loop: list[Clock] = []
        self.bare_ones: list[Clock] = []
        self._began = Clock.now()

    def __call__(self, status: Status) -> None:
        """Note the time of a round that ends here, and take the bare loop's turn."""
        if status.step < WARM or (status.step - WARM) % self.steps:
            return
        self.wait()
        if status.step > WARM:
            self.loop.append(Clock.now() - self._began)
        for _ in range(WARM if status.step == WARM else 1):
            self.bare()
        self.wait()
        began = Clock.now()
        if status.step > WARM:
            for _ in range(self.steps):
                self.bare()
            self.wait()
            self.bare_ones.append(Clock.now() - began)
        self._began = Clock.now()


def bare_step(network: nn.Module, recipe: Recipe, batch: tuple[torch.Tensor, ...], device: str) -> Callable[[], None]:
    """Return a function that takes one step and waits for nothing."""
    fabric = make_fabric(device, recipe.precision, Place())
    network.to(fabric.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model, optimizer = fabric.setup(network, make_optimizer(network, recipe))
    degraded, original = (t.to(fabric.device, memory_format=torch.channels_last) for t in batch[:2])
    loss_of = loss_from(recipe.loss)
    network.train()

    def step() -> None:
        optimizer.zero_grad()
        fabric.backward(loss_of(model(degraded), original))
        optimizer.step()

    return step


def network_of(case: Case) -> Network:
    """Return a fresh network with the paper's widths."""
    return build(case.arch, config={} if case.arch == "vdsr" else {"scale": case.scale})


def run_of(case: Case, network: Network, arguments: argparse.Namespace) -> Run:
    """Return the training of ``network`` by its paper's recipe; who reports is still open."""
    recipe = Recipe(
        steps=WARM + arguments.steps * arguments.rounds,
        batch_size=arguments.batch_size or case.batch,
        loss=case.loss,
        precision=arguments.precision,
        **case.recipe,  # type: ignore[arg-type]
    )
    config = DataConfig(tuple(arguments.data), (case.scale,), case.patch, (1.0,), upscale=network.upscale)
    return Run(
        recipe=recipe,
        data=PatchSource(config),
        card=card_of(network, scales=(case.scale,), default_scale=case.scale),
        output=Path(),
        report=lambda status: None,
        device=arguments.device,
        compile=arguments.compile,
        workers=arguments.workers,
        save_minutes=1e9,
        keep_state=False,
    )


def measure(name: str, arguments: argparse.Namespace) -> dict[str, object]:
    """Return the figures of one network."""
    case = CASES[name]
    network = network_of(case)
    run = run_of(case, network, arguments)
    batch_size = run.recipe.batch_size
    began = time.perf_counter()
    batches = [run.data.batch(size=batch_size, seed=0, step=step) for step in range(5)]
    batch_ms = (time.perf_counter() - began) / len(batches) * 1000.0
    wait = torch.cuda.synchronize if arguments.device == "cuda" else _nothing
    turns = Turns(bare_step(network_of(case), run.recipe, batches[0], arguments.device), wait, arguments.steps)
    with tempfile.TemporaryDirectory() as folder:
        run.report, run.output = turns, Path(folder) / "a.safetensors"
        train(run, network)
    pairs = list(zip(turns.loop, turns.bare_ones, strict=True))
    images = batch_size * arguments.steps
    return {
        "network": name,
        "batch_size": batch_size,
        "loop_images_per_s": images / statistics.median(loop.wall for loop, _ in pairs),
        "bare_images_per_s": images / statistics.median(bare.wall for _, bare in pairs),
        "wall_ratio": statistics.median(bare.wall / loop.wall for loop, bare in pairs),
        "cpu_ratio": statistics.median(bare.cpu / loop.cpu for loop, bare in pairs),
        "batch_ms": batch_ms,
        "rounds": [{"loop": loop._asdict(), "bare": bare._asdict()} for loop, bare in pairs],
    }


def _nothing() -> None:
    """Wait for nothing: the CPU has done its work when it returns."""


def main(argv: list[str] | None = None) -> int:
    """Measure, print the table, write ``training.json``."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--networks", nargs="+", choices=tuple(CASES), default=list(CASES))
    p.add_argument("--data", nargs="+", type=Path, default=[ROOT / "tests" / "pictures"], metavar="DIR")
    p.add_argument("--batch-size", type=positive_int, metavar="N", help="default: the paper's, 16 and 64")
    p.add_argument("--steps", type=positive_int, default=5, metavar="N", help="steps of a turn (default: 5)")
    p.add_argument("--rounds", type=positive_int, default=5, metavar="N", help="turns of each (default: 5)")
    p.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32")
    p.add_argument("--compile", action="store_true", help="compile the loop's network, not the bare one's")
    p.add_argument("--workers", type=worker_count, default=1, metavar="N", help="threads preparing batches (default: 1)")
    p.add_argument("--threads", type=thread_count, metavar="N", help="threads that compute (default: all cores)")
    p.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "training.json", metavar="FILE")
    arguments = p.parse_args(argv)

    def command() -> int:
        if arguments.threads is not None:
            torch.set_num_threads(arguments.threads)
        rows = [measure(name, arguments) for name in arguments.networks]
        heading = ["network", "batch", "loop, images/s", "bare, images/s", "loop / bare", "the same in CPU time", "a batch, ms"]
        figures = ("loop_images_per_s", "bare_images_per_s", "wall_ratio", "cpu_ratio", "batch_ms")
        lines = [[str(r["network"]), str(r["batch_size"]), *(f"{r[name]:.3f}" for name in figures)] for r in rows]
        print(table([heading, *lines], markdown=True))
        facts = {name: getattr(arguments, name) for name in ("steps", "rounds", "device", "precision", "compile", "workers")}
        content = {"machine": machine(), "threads": torch.get_num_threads(), **facts, "results": rows}
        write_text(arguments.json, json.dumps(content, indent=2) + "\n")
        return 0

    return run("training.py", command)


if __name__ == "__main__":
    sys.exit(main())
