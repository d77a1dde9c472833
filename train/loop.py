"""The training loop: one optimizer step after another, measured, saved, and resumable to the bit."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from sr_deploy.card import ModelCard
from sr_deploy.degrade import Plane, imresize
from sr_deploy.errors import MachineError
from sr_deploy.measure import mean, score
from sr_deploy.train import checkpoint
from sr_deploy.train.config import Recipe
from sr_deploy.train.data import PatchSource
from sr_deploy.train.interrupt import Interrupt
from sr_deploy.train.losses import loss_from
from sr_deploy.train.networks import at_scale, upscale_of
from sr_deploy.train.state import Progress, load_state_, save_state

Report = Callable[["Status"], None]


@dataclass(frozen=True)
class Status:
    """Where training stands; given to the reporter after every step and every validation."""

    step: int
    fraction: float  # of the whole run, 0 to 1
    loss: float  # running mean
    lr: float
    images_per_s: float
    seconds_left: float
    psnr_db: dict[int, float] | None = None  # by scale, after a validation


@dataclass
class Run:
    """Everything about one training run that is not the network: data, recipe, where things go, how it reports."""

    recipe: Recipe
    data: PatchSource
    card: ModelCard
    output: Path
    report: Report
    validation: Sequence[Plane] = ()
    device: str = "auto"
    workers: int = 1
    save_minutes: float = 5.0
    log_dir: Path | None = None
    keep_state: bool = True  # whether the run can be resumed
    history: list[Status] = field(default_factory=list)  # of validations, for callers that compare runs

    @property
    def state_path(self) -> Path:
        """The file beside the checkpoint that a run resumes from."""
        return self.output.with_suffix(".train.safetensors")


def train(run: Run, network: nn.Module, *, resume: bool = False) -> nn.Module:
    """Train ``network`` (changed in place) and return it; the checkpoint and its training state are on disk.

    Ctrl-C saves both and raises ``KeyboardInterrupt`` again.

    Raises:
        InputError: ``resume`` without a state, or with another recipe.
        MachineError: the loss is no longer a number.
    """
    with Interrupt() as interrupt:
        return _Loop(run, network, resume, interrupt).train()


class _Loop:
    def __init__(self, run: Run, network: nn.Module, resume: bool, interrupt: Interrupt) -> None:
        logging.getLogger("lightning.fabric").setLevel(logging.WARNING)  # it tells what --precision says
        self.interrupt, self.in_step = interrupt, False
        self.fabric = Fabric(
            accelerator=run.device, devices=1, precision="bf16-mixed" if run.recipe.precision == "bf16" else "32-true"
        )
        torch.manual_seed(run.recipe.seed)
        self.run, self.recipe, self.network = run, run.recipe, network
        self.optimizer = make_optimizer(network, run.recipe)
        self.step, self.elapsed, self.loss = 0, 0.0, math.nan
        self.loss_of = loss_from(run.recipe.loss)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.model, self.wrapped = self.fabric.setup(network, self.optimizer)
        self.steps_per_epoch = math.ceil(run.data.patches / self.recipe.batch_size)
        if resume:  # after the network went to its device: the optimizer's tensors follow the weights
            found = load_state_(run.state_path, network, self.optimizer, identity_of(run))
            self.step, self.elapsed, self.loss = found.step, found.elapsed_s, found.loss

    def train(self) -> nn.Module:
        began, saved = time.monotonic() - self.elapsed, time.monotonic()
        first_step, first_time = self.step, time.monotonic()
        batches = self.run.data.batches(
            size=self.recipe.batch_size, seed=self.recipe.seed, first_step=self.step, workers=self.run.workers
        )
        writer = SummaryWriter(str(self.run.log_dir)) if self.run.log_dir else None
        self.network.train()
        try:
            while (fraction := self._fraction()) < 1.0:
                self.interrupt.check()
                lr = learning_rate(self.recipe, self.step, fraction, self.steps_per_epoch)
                self._take_step(next(batches), lr)
                now = time.monotonic()
                self.elapsed = now - began
                rate = (self.step - first_step) * self.recipe.batch_size / max(now - first_time, 1e-9)
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
        return self.network.eval()

    def _fraction(self) -> float:
        fractions = [0.0]
        if self.recipe.steps is not None:
            fractions.append(self.step / self.recipe.steps)
        if self.recipe.epochs is not None:
            fractions.append(self.step / (self.recipe.epochs * self.steps_per_epoch))
        if self.recipe.minutes is not None:
            fractions.append(self.elapsed / (60.0 * self.recipe.minutes))
        return max(fractions)

    def _take_step(self, batch: tuple[Tensor, Tensor], lr: float) -> None:
        self.in_step = True
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        degraded, original = (t.to(self.fabric.device, memory_format=torch.channels_last) for t in batch)
        self.wrapped.zero_grad()
        loss = self.loss_of(self.model(degraded), original)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise MachineError(
                f"{self.run.output}: the loss became {value} at step {self.step}; "
                "what was saved before is kept; start again with a lower --lr or --clip, with --init-from what was saved"
            )
        self.fabric.backward(loss)
        clip_(self.network, self.recipe, lr)
        self.wrapped.step()
        self.step += 1
        self.in_step = False
        self.loss = value if math.isnan(self.loss) else 0.98 * self.loss + 0.02 * value

    def _status(self, lr: float, rate: float, psnr_db: dict[int, float] | None = None) -> Status:
        fraction = min(self._fraction(), 1.0)
        left = self.elapsed * (1.0 / fraction - 1.0) if fraction else math.inf
        return Status(self.step, fraction, self.loss, lr, rate, left, psnr_db)

    def _checkpoint(self, status: Status, writer: SummaryWriter | None) -> None:
        self._save()
        if self.run.validation:
            status = dataclasses.replace(status, psnr_db=validate(self.network, self.run.validation, self.run.card.scales))
            self.run.history.append(status)
            self.run.report(status)
        if writer is not None:
            write_scalars(writer, status)

    def _save(self) -> None:
        recipe = {f"train.{k}": str(v) for k, v in dataclasses.asdict(self.recipe).items() if v is not None}
        recipe["train.done_steps"] = str(self.step)
        card = self.run.card.with_changes(recipe={**self.run.card.recipe, **recipe})
        checkpoint.save(self.run.output, self.network, card)
        if not self.run.keep_state:
            return
        progress = Progress(self.step, self.elapsed, self.loss)
        save_state(self.run.state_path, self.network, self.optimizer, progress, identity_of(self.run))


def identity_of(run: Run) -> dict[str, object]:
    """Return what must be equal to resume a run: network, data and recipe; its length only where the schedule depends on it."""
    recipe = dataclasses.asdict(run.recipe)
    if run.recipe.schedule != "cosine":
        recipe = {name: value for name, value in recipe.items() if name not in ("steps", "epochs", "minutes")}
    data = {name: value for name, value in run.card.recipe.items() if name.startswith("data.")}
    return {"widths": list(run.card.widths), **run.card.config, **data, "pictures": run.data.digest[7:19], **recipe}


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return the optimizer of ``recipe`` over all weights of ``network``."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    if recipe.optimizer == "adam":
        betas = (recipe.momentum, 0.999)
        return torch.optim.Adam(parameters, lr=recipe.lr, betas=betas, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(parameters, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)


def learning_rate(recipe: Recipe, step: int, fraction: float, steps_per_epoch: int) -> float:
    """Return the learning rate of ``step``; ``fraction`` is the part of the run that is done."""
    lr = recipe.lr
    if recipe.schedule == "step":
        lr *= 0.1 ** int(min(step / steps_per_epoch / recipe.lr_step, 400.0))  # 400: already zero
    elif recipe.schedule == "halve":
        lr *= 0.5 ** min(step // recipe.lr_half, 1000)
    else:
        lr *= 0.5 * (1.0 + math.cos(math.pi * min(fraction, 1.0)))
    return lr * min(1.0, (step + 1) / (recipe.warmup + 1))


def clip_(network: nn.Module, recipe: Recipe, lr: float) -> None:
    """Clip the gradients: each to +-theta/lr (VDSR, section 3.2), or their common norm to theta."""
    if recipe.clip_mode == "value":
        nn.utils.clip_grad_value_(network.parameters(), recipe.clip / max(lr, 1e-30))
    elif recipe.clip_mode == "norm":
        nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)


def validate(network: nn.Module, pictures: Sequence[Plane], scales: Sequence[int]) -> dict[int, float]:
    """Return the mean PSNR in dB by scale of a network on whole pictures (luma in grey levels)."""
    network.eval()
    device = next(network.parameters()).device

    def enlarge(lr: Plane, scale: int) -> Plane:
        with torch.no_grad():
            plane = imresize(lr, float(scale)) if upscale_of(network) == "before" else lr
            x = torch.from_numpy(plane)[None, None].to(device)
            return np.asarray(at_scale(network, scale)(x)[0, 0].float().cpu().numpy(), np.float32)

    result = {scale: mean([score(enlarge, hr, scale) for hr in pictures]).psnr_db for scale in scales}
    network.train()
    return result


def write_scalars(writer: SummaryWriter, status: Status) -> None:
    """Write one status to TensorBoard."""
    for name, value in (("loss", status.loss), ("lr", status.lr), ("images_per_s", status.images_per_s)):
        writer.add_scalar(name, value, status.step)
    for scale, value in (status.psnr_db or {}).items():
        writer.add_scalar(f"psnr_db/x{scale}", value, status.step)
