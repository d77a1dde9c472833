from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from lightning.fabric import Fabric
from lightning.fabric.plugins.precision.amp import MixedPrecision
from lightning.fabric.strategies.ddp import DDPStrategy
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

from sr_deploy.errors import InputError
from sr_deploy.train.loop.devices import Neighbours, Place, check_devices, make_fabric
from sr_deploy.train.loop.recipe import Recipe
from sr_deploy.train.loop.stepper import MOST_SKIPPED, MicroBatch, PixelStepper
from tests.helpers.networks import vdsr

RECIPE = Recipe(steps=1, clip_mode="norm", clip=0.05)


def patches(count: int) -> MicroBatch:
    generator = torch.Generator().manual_seed(count)
    original = torch.rand(count, 1, 16, 16, generator=generator)
    return MicroBatch(original + 0.1 * torch.randn(original.shape, generator=generator), original)


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def halves(scaler: torch.amp.GradScaler) -> Fabric:
    """Return Fabric with float16 and ``scaler`` on the CPU, which is slow but computes what a GPU does."""
    return Fabric(accelerator="cpu", devices=1, plugins=[MixedPrecision("16-mixed", "cpu", scaler)])


def test_micro_batches_equal_one_batch() -> None:
    whole, parts = vdsr(8, 8, 1), vdsr(8, 8, 1)
    batch = patches(8)
    one = PixelStepper(make_fabric("cpu", "fp32", Place()), whole, RECIPE)
    other = PixelStepper(make_fabric("cpu", "fp32", Place()), parts, RECIPE)
    slices = [MicroBatch(batch.degraded[k : k + 2], batch.original[k : k + 2]) for k in range(0, 8, 2)]
    for _ in range(3):
        expected, found = one.step([batch], 0.1), other.step(slices, 0.1)
        assert float(found.losses["loss"]) == pytest.approx(float(expected.losses["loss"]), rel=1e-6)
    # float32 sums in another order: a few units of the last place (6e-8) of weights below 1
    assert torch.allclose(weights(parts), weights(whole), rtol=0.0, atol=1e-6)


def test_only_the_last_micro_batch_is_shared_among_processes(tmp_path: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    try:
        strategy = DDPStrategy(cluster_environment=Neighbours(Place()), accelerator=None)
        fabric = Fabric(accelerator="cpu", devices=1, strategy=strategy)
        fabric.launch()
        stepper = PixelStepper(fabric, vdsr(8, 8, 1), RECIPE)
        shared: list[int] = []

        def counted(group: dist.ProcessGroup, bucket):  # type: ignore[no-untyped-def]  # torch checks annotations as objects
            shared.append(bucket.index())
            return allreduce_hook(group, bucket)

        stepper.model._forward_module.register_comm_hook(dist.group.WORLD, counted)
        stepper.step([patches(2), patches(3), patches(4)], 0.1)
        assert shared == [0]  # one bucket, once
    finally:
        dist.destroy_process_group()


def test_fp16_clips_what_the_scale_is_taken_out_of() -> None:
    single, half = vdsr(8, 8, 1), vdsr(8, 8, 1)
    PixelStepper(make_fabric("cpu", "fp32", Place()), single, RECIPE).step([patches(4)], 0.1)
    stepper = PixelStepper(halves(torch.amp.GradScaler("cpu", init_scale=1024.0)), half, RECIPE)
    outcome = stepper.step([patches(4)], 0.1)
    assert bool(outcome.finite)
    moved = (weights(single) - weights(vdsr(8, 8, 1))).norm()
    # fp16 rounds to 2 ** -11; a norm clipped with the scale in it would be 1024 times smaller
    assert float((weights(half) - weights(single)).norm() / moved) < 0.02


def test_fp16_leaves_out_a_step_that_overflows_and_gives_up_when_that_never_ends() -> None:
    model = vdsr(8, 8, 1)
    stepper = PixelStepper(halves(torch.amp.GradScaler("cpu", init_scale=2.0**100, growth_interval=10_000)), model, RECIPE)
    for _ in range(MOST_SKIPPED - 1):
        outcome = stepper.step([patches(2)], 0.1)
        assert bool(outcome.finite)
    assert torch.equal(weights(model), weights(vdsr(8, 8, 1)))
    assert not bool(stepper.step([patches(2)], 0.1).finite)


def test_fp16_takes_its_scale_along() -> None:
    first = PixelStepper(halves(torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=2)), vdsr(8, 8, 1), RECIPE)
    for _ in range(3):
        first.step([patches(2)], 0.1)
    second = PixelStepper(halves(torch.amp.GradScaler("cpu")), vdsr(8, 8, 1), RECIPE)
    second.restore_(first.numbers())
    assert second.numbers() == first.numbers()
    assert first.numbers()["scale"] == 128.0 and first.numbers()["_growth_tracker"] == 1


def test_a_gradient_that_is_no_number_is_told() -> None:
    model = vdsr(8, 8, 1)
    stepper = PixelStepper(make_fabric("cpu", "fp32", Place()), model, Recipe(steps=1))
    assert bool(stepper.step([patches(2)], 0.1).finite)
    next(model.parameters()).register_hook(lambda gradient: gradient * float("inf"))  # type: ignore[no-untyped-call]
    outcome = stepper.step([patches(2)], 0.1)
    assert not bool(outcome.finite) and bool(outcome.losses["loss"].isfinite())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_fp16_is_refused_on_the_cpu(device: str) -> None:
    with pytest.raises(InputError, match="--precision fp16: trains on CUDA only, this device is the CPU; use bf16 or fp32"):
        make_fabric(device, "fp16", Place())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_more_processes_than_devices_are_refused() -> None:
    count = torch.cuda.device_count()
    with pytest.raises(InputError, match=rf"--devices {count + 1}: torch finds {count} CUDA device"):
        check_devices("cuda", "fp32", count + 1)
