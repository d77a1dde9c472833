"""The training loop: one optimizer step after another, measured, saved, and resumable to the bit."""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from sr_deploy.card import ModelCard
from sr_deploy.degrade import Planes
from sr_deploy.errors import MachineError
from sr_deploy.signals import HeldSignals, held_signals
from sr_deploy.train.data.batches import Batch, PatchSource
from sr_deploy.train.loop.devices import check_compiler, make_fabric
from sr_deploy.train.loop.ema import Average
from sr_deploy.train.loop.processes import Team, together
from sr_deploy.train.loop.recipe import Recipe
from sr_deploy.train.loop.schedule import fraction_done, learning_rate
from sr_deploy.train.loop.state import Progress, Trained, load_state_, save_state
from sr_deploy.train.loop.status import Meter, Report, Status, silent, write_scalars
from sr_deploy.train.loop.stepper import MakeStepper, MicroBatch, PixelStepper
from sr_deploy.train.loop.validation import validate
from sr_deploy.train.networks.expansion import collapse_, expand_
from sr_deploy.train.networks.network import Network
from sr_deploy.train.weights import checkpoint

AsSaved = Callable[[Network, ModelCard], tuple[Network, ModelCard]]
WATCH_STEPS = 20  # on CUDA, between two looks at whether all was a number: each waits for the device


def as_it_is(network: Network, card: ModelCard) -> tuple[Network, ModelCard]:
    """Return both unchanged."""
    return network, card


@dataclass
class Run:
    """Everything about one training run that is not the network: data, recipe, where things go, how it reports."""

    recipe: Recipe
    data: PatchSource
    card: ModelCard
    output: Path
    report: Report = silent
    validation: Sequence[Planes] = ()
    device: str = "auto"
    devices: int = 1  # processes, each with its own device, or its share of the CPU's cores
    compile: bool = False  # by torch.compile
    workers: int = 1
    save_minutes: float = 5.0
    log_dir: Path | None = None
    keep_state: bool = True  # whether the run can be resumed
    stepper: MakeStepper = PixelStepper
    as_saved: AsSaved = as_it_is  # what is written as the checkpoint, of what is trained
    history: list[Status] = field(default_factory=list)  # of validations, for callers that compare runs

    @property
    def state_path(self) -> Path:
        """The file beside the checkpoint that a run resumes from."""
        return self.output.with_suffix(".train.safetensors")

    @property
    def global_batch(self) -> int:
        """Patches of one optimizer step, over all micro-batches and processes."""
        return self.recipe.batch_size * self.recipe.accumulate * self.devices


def train(run: Run, network: Network, *, resume: bool = False) -> Network:
    """Train ``network`` (changed in place) and return it with the weights of its checkpoint, averaged ones with an EMA.

    The checkpoint and its training state are on disk. Ctrl-C saves both and raises ``KeyboardInterrupt`` again. Processes
    beside this one are described in :mod:`sr_deploy.train.loop.processes`; batch normalisation counts each one's own patches.

    Raises:
        InputError: ``resume`` without a state, or with another recipe; a device that is not there or cannot do what is asked.
        MachineError: the loss or a gradient is no longer a number; another process died; there is no compiler.
    """
    task = None
    if run.devices > 1:  # what is for process 0 alone stays here
        alone = dataclasses.replace(run, report=silent, validation=(), log_dir=None, history=[])
        task = (alone, network.to("cpu"), resume)
    with held_signals() as interrupt, together(_take_part, task, count=run.devices, device=run.device) as team:
        return _Loop(run, network, team, resume=resume).train(interrupt)


def _take_part(task: object, team: Team) -> None:
    run, network, resume = cast(tuple[Run, Network, bool], task)
    _Loop(run, network, team, resume=resume).train(HeldSignals())


class _Loop:
    def __init__(self, run: Run, network: Network, team: Team, *, resume: bool) -> None:
        self.run, self.recipe, self.network, self.team = run, run.recipe, network, team
        branched = len(network.at_each_scale()) > 1
        self.fabric = make_fabric(run.device, run.recipe.precision, team.place, branched=branched)
        if run.compile:
            check_compiler(self.fabric.device)
        torch.manual_seed(run.recipe.seed)
        self.in_step, self.step, self.elapsed = False, 0, 0.0
        self.saved_step: int | None = None
        self.meter = Meter()
        if run.recipe.expand:
            expand_(network, run.recipe.expand)
        self.stepper = run.stepper(self.fabric, network, run.recipe, compiled=run.compile)
        self.average = Average(network, run.recipe.ema) if run.recipe.ema is not None else None
        self.steps_per_epoch = math.ceil(run.data.patches / run.global_batch)
        if resume:  # after the network went to its device: the optimizer's tensors follow the weights
            found = load_state_(run.state_path, self._trained(), identity_of(run))
            self.step, self.elapsed, self.saved_step = found.step, found.elapsed_s, found.step
            self.meter = Meter(found.losses, self.fabric.device)
            self.stepper.restore_(found.numbers)

    def train(self, interrupt: HeldSignals) -> Network:
        began, saved = time.monotonic() - self.elapsed, time.monotonic()
        first_step, first_time = self.step, time.monotonic()
        batches = self.run.data.batches(
            size=self.run.global_batch, seed=self.recipe.seed, first_step=self.step, workers=self.run.workers
        )
        writer = SummaryWriter(str(self.run.log_dir)) if self.run.log_dir else None
        self.network.train()
        try:
            while (fraction := self._fraction()) < 1.0:
                interrupt.obey()
                lr = learning_rate(self.recipe, self.step, fraction, self.steps_per_epoch)
                self._take_step(self._micro_batches(next(batches)), lr)
                now = time.monotonic()
                self.elapsed = self.team.agree(now - began)
                rate = (self.step - first_step) * self.run.global_batch / max(now - first_time, 1e-9)
                status = self._status(lr, rate)
                self.run.report(status)
                if writer is not None and self.step % 20 == 0:
                    write_scalars(writer, status)
                if now - saved > 60.0 * self.run.save_minutes:
                    self._checkpoint(status, writer)
                    saved = time.monotonic()
            self._checkpoint(self._status(0.0, 0.0), writer)
        except KeyboardInterrupt:
            if not self.in_step:  # a step that was cut in two cannot be resumed; what was saved before is kept
                self._save()
            raise
        finally:
            batches.close()
            if writer is not None:
                writer.close()
        if self.average is not None:
            self.network.load_state_dict(self.average.network.state_dict())
        return collapse_(self.network).eval()

    def _fraction(self) -> float:
        return fraction_done(self.recipe, self.step, self.elapsed, self.steps_per_epoch)

    def _micro_batches(self, batch: Batch) -> list[MicroBatch]:
        """Return this process's part of the global batch on its device; nothing else knows what a batch looks like."""
        degraded, original, scale = batch
        size, count = self.recipe.batch_size, self.recipe.accumulate
        first = self.team.place.rank * count * size
        parts = [slice(k, k + size) for k in range(first, first + count * size, size)]
        return [MicroBatch(self._on_device(degraded[part]), self._on_device(original[part]), scale) for part in parts]

    def _on_device(self, patches: Tensor) -> Tensor:
        device = self.fabric.device
        if device.type == "cuda":  # from pinned memory a copy waits for nothing
            patches = patches.pin_memory().to(device, non_blocking=True)
        return patches.to(device, memory_format=torch.channels_last)

    def _take_step(self, batches: Sequence[MicroBatch], lr: float) -> None:
        self.in_step = True
        outcome = self.stepper.step(batches, lr)
        losses = {name: value.double() for name, value in outcome.losses.items()}
        if self.team.place.count > 1:
            losses = cast(dict[str, Tensor], self.fabric.all_reduce(losses, reduce_op="mean"))
        self.meter.add(self.step, losses, outcome.finite)
        if self.watched:
            self._check_numbers()
        self.step += 1
        if self.average is not None:
            self.average.update(self.network, self.step)
        self.in_step = False

    @property
    def watched(self) -> bool:
        return self.fabric.device.type != "cuda" or self.step % WATCH_STEPS == 0

    def _check_numbers(self) -> None:
        trouble = self.meter.trouble()
        if trouble is None:
            return
        kept, again = "nothing was saved before", "start again with a lower --lr or --clip"
        if self.saved_step is not None:
            kept, again = f"{self.run.output.name} is kept as of step {self.saved_step}", f"{again}, with --init-from it"
        raise MachineError(f"{self.run.output}: {trouble.what} at step {trouble.step}; {kept}; {again}")

    def _status(self, lr: float, rate: float) -> Status:
        fraction = min(self._fraction(), 1.0)
        left = self.elapsed * (1.0 / fraction - 1.0) if fraction else math.inf
        return Status(self.step, fraction, self.meter.losses(), lr, rate, left)

    def _checkpoint(self, status: Status, writer: SummaryWriter | None) -> None:
        if self.team.place.rank > 0:
            return
        self._save()
        if self.run.validation:
            network = self.network if self.average is None else self.average.network
            status = dataclasses.replace(status, psnr_db=validate(network, self.run.validation, self.run.card.scales))
            self.run.history.append(status)
            self.run.report(status)
        if writer is not None:
            write_scalars(writer, status)

    def _save(self) -> None:
        self._check_numbers()
        recipe = {f"train.{k}": str(v) for k, v in dataclasses.asdict(self.recipe).items() if v is not None}
        recipe |= {"train.done_steps": str(self.step), "train.processes": str(self.run.devices)}
        card = self.run.card.with_changes(recipe={**self.run.card.recipe, **recipe})
        network = self.network if self.average is None else self.average.network
        network = collapse_(copy.deepcopy(network)) if self.recipe.expand else network
        checkpoint.save(self.run.output, *self.run.as_saved(network, card))
        if self.run.keep_state:
            progress = Progress(self.step, self.elapsed, dict(self.meter.losses()), self.stepper.numbers())
            save_state(self.run.state_path, self._trained(), progress, identity_of(self.run))
        self.saved_step = self.step

    def _trained(self) -> Trained:
        average = {} if self.average is None else {"ema": self.average.network}
        return Trained({**self.stepper.modules, **average}, self.stepper.optimizers)


def identity_of(run: Run) -> dict[str, object]:
    """Return what must be equal to resume a run: network, data and recipe; its length only where the schedule depends on it.

    Of the batch it is the number of patches in all: how processes and micro-batches share them may change.
    """
    recipe = dataclasses.asdict(run.recipe) | {"batch_size": run.global_batch}
    del recipe["accumulate"]
    if run.recipe.schedule not in ("cosine", "drop"):
        recipe = {name: value for name, value in recipe.items() if name not in ("steps", "epochs", "minutes")}
    data = {name: value for name, value in run.card.recipe.items() if name.startswith("data.")}
    return {"widths": list(run.card.widths), **run.card.config, **data, "pictures": run.data.digest[7:19], **recipe}
