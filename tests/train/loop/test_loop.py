from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import safetensors.torch
import torch

from sr_deploy.degrade import Plane
from sr_deploy.errors import InputError, MachineError
from sr_deploy.measure import bicubic, mean, score
from sr_deploy.train.data.batches import PatchSource
from sr_deploy.train.loop import loop
from sr_deploy.train.loop.loop import Run, train
from sr_deploy.train.loop.recipe import Recipe
from sr_deploy.train.loop.status import Report, Status
from sr_deploy.train.loop.validation import load_validation, validate
from sr_deploy.train.losses.expression import half_sum_of_squares
from sr_deploy.train.networks.registry import build, card_of
from sr_deploy.train.weights import checkpoint
from tests.helpers.networks import vdsr

SGD = Recipe(steps=6, batch_size=4, clip=1e-3)
ADAM = Recipe(steps=6, batch_size=4, optimizer="adam", lr=1e-3, weight_decay=0.0, schedule="cosine", warmup=2, clip_mode="norm")


def silent(_: Status) -> None:
    return


def run_of(data: PatchSource, recipe: Recipe, output: Path, report: Report = silent) -> Run:
    card = card_of(vdsr(8, 8, 1), scales=data.config.scales, default_scale=2)
    return Run(recipe=recipe, data=data, card=card, output=output, report=report, device="cpu", workers=0)


def stop_at(step: int) -> Report:
    def report(status: Status) -> None:
        if status.step == step:
            raise KeyboardInterrupt

    return report


def state_of(run: Run) -> dict[str, torch.Tensor]:
    return safetensors.torch.load(run.state_path.read_bytes())


def assert_same_run(a: Run, b: Run) -> None:
    assert a.output.read_bytes() == b.output.read_bytes()  # weights and card, the number of steps included
    one, other = state_of(a), state_of(b)
    assert one.keys() == other.keys()
    assert any(key.startswith("opt.") for key in one)
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(steps=60, batch_size=8, clip=3e-4),  # the paper's SGD: lr 0.1, each gradient cut to clip / lr
        Recipe(steps=60, batch_size=8, optimizer="adam", lr=2e-3, clip_mode="norm", clip=2.0),
    ],
    ids=["sgd", "adam"],
)
def test_loss_falls(data: PatchSource, tmp_path: Path, recipe: Recipe) -> None:
    torch.manual_seed(3)
    model = build("vdsr", (8, 8, 1))
    degraded, original, _ = data.batch(size=64, seed=99, step=0)

    def loss() -> float:
        with torch.no_grad():
            return float(half_sum_of_squares(model(degraded), original))

    before, untouched = loss(), float(half_sum_of_squares(degraded, original))
    train(run_of(data, recipe, tmp_path / "a.safetensors"), model)
    assert loss() < before
    assert loss() < 0.98 * untouched  # better than bicubic: dead features would give exactly that


def test_the_recipe_chooses_the_loss(data: PatchSource, tmp_path: Path) -> None:
    runs = [run_of(data, dataclasses.replace(SGD, loss=loss), tmp_path / f"{loss}.safetensors") for loss in ("mse", "l1")]
    for run in runs:
        train(run, vdsr(8, 8, 1))
    first, second = (checkpoint.tensors(run.output)["conv1.weight"] for run in runs)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("recipe", [SGD, ADAM], ids=["sgd", "adam"])
def test_training_is_deterministic(data: PatchSource, tmp_path: Path, recipe: Recipe) -> None:
    runs = [run_of(data, recipe, tmp_path / name) for name in ("a.safetensors", "b.safetensors")]
    for run in runs:
        train(run, vdsr(8, 8, 1))
    assert_same_run(*runs)


def test_workers_change_nothing(data: PatchSource, tmp_path: Path) -> None:
    runs = [run_of(data, SGD, tmp_path / name) for name in ("a.safetensors", "b.safetensors")]
    runs[1].workers = 2
    for run in runs:
        train(run, vdsr(8, 8, 1))
    assert_same_run(*runs)


@pytest.mark.parametrize("recipe", [SGD, ADAM], ids=["sgd", "adam with a cosine"])
def test_interrupted_and_resumed_equals_uninterrupted(data: PatchSource, tmp_path: Path, recipe: Recipe) -> None:
    whole = run_of(data, recipe, tmp_path / "whole.safetensors")
    train(whole, vdsr(8, 8, 1))
    stopped = run_of(data, recipe, tmp_path / "parts.safetensors", stop_at(3))
    with pytest.raises(KeyboardInterrupt):
        train(stopped, vdsr(8, 8, 1))
    assert checkpoint.read_card(stopped.output).recipe["train.done_steps"] == "3"
    resumed = run_of(data, recipe, stopped.output)
    torch.manual_seed(77)  # resuming does not depend on where the process stands
    train(resumed, build("vdsr", (8, 8, 1)), resume=True)
    assert_same_run(whole, resumed)


def test_a_finished_run_can_be_made_longer(data: PatchSource, tmp_path: Path) -> None:
    whole = run_of(data, SGD, tmp_path / "whole.safetensors")
    train(whole, vdsr(8, 8, 1))
    short = run_of(data, dataclasses.replace(SGD, steps=2), tmp_path / "parts.safetensors")
    train(short, vdsr(8, 8, 1))
    longer = run_of(data, SGD, short.output)
    train(longer, vdsr(8, 8, 1), resume=True)
    assert_same_run(whole, longer)


def test_resuming_a_finished_run_changes_nothing(data: PatchSource, tmp_path: Path) -> None:
    run = run_of(data, SGD, tmp_path / "a.safetensors")
    train(run, vdsr(8, 8, 1))
    before = run.output.read_bytes()
    train(run, vdsr(8, 8, 1), resume=True)
    assert run.output.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.05}, r"was trained with lr 0\.1, not 0\.05; give the same options to resume"),
        ({"seed": 4}, "was trained with seed 0, not 4"),
        ({"batch_size": 5}, "was trained with batch_size 4, not 5"),
        ({"schedule": "cosine"}, "was trained with"),
    ],
)
def test_another_recipe_is_refused_by_name(data: PatchSource, tmp_path: Path, change: dict[str, object], message: str) -> None:
    train(run_of(data, dataclasses.replace(SGD, steps=1), tmp_path / "a.safetensors"), vdsr(8, 8, 1))
    other = dataclasses.replace(SGD, **change)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=rf"a\.train\.safetensors: {message}"):
        train(run_of(data, other, tmp_path / "a.safetensors"), vdsr(8, 8, 1), resume=True)


def test_a_cosine_does_not_resume_to_another_length(data: PatchSource, tmp_path: Path) -> None:
    train(run_of(data, dataclasses.replace(ADAM, steps=1), tmp_path / "a.safetensors"), vdsr(8, 8, 1))
    with pytest.raises(InputError, match="was trained with steps 1, not 6"):
        train(run_of(data, ADAM, tmp_path / "a.safetensors"), vdsr(8, 8, 1), resume=True)


def test_nothing_to_resume_is_refused(data: PatchSource, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.train\.safetensors: cannot be read .*; there is no run to resume; start without"):
        train(run_of(data, SGD, tmp_path / "a.safetensors"), vdsr(8, 8, 1), resume=True)


@pytest.mark.parametrize("content", [b"", b"short", b"\x10" + b"\x00" * 7 + b'{"a":1}         '])
def test_a_broken_state_is_refused(data: PatchSource, tmp_path: Path, content: bytes) -> None:
    run = run_of(data, SGD, tmp_path / "a.safetensors")
    run.state_path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.train\.safetensors: not a training state \(.*\); start without --resume$"):
        train(run, vdsr(8, 8, 1), resume=True)


def test_a_loss_that_is_no_number_stops_with_the_step(data: PatchSource, tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"the last checkpoint")
    model = vdsr(8, 8, 1)

    def poison(status: Status) -> None:
        if status.step == 2:
            with torch.no_grad():
                next(model.parameters()).fill_(float("nan"))

    expected = (
        r"a\.safetensors: the loss became nan at step 2; nothing was saved before; start again with a lower --lr or --clip$"
    )
    with pytest.raises(MachineError, match=expected):
        train(run_of(data, SGD, tmp_path / "a.safetensors", poison), model)
    assert (tmp_path / "a.safetensors").read_bytes() == b"the last checkpoint"


@pytest.mark.parametrize("recipe", [SGD, ADAM, dataclasses.replace(SGD, clip_mode="none")], ids=["value", "norm", "none"])
def test_a_gradient_that_is_no_number_stops_before_it_is_saved(data: PatchSource, tmp_path: Path, recipe: Recipe) -> None:
    model = vdsr(8, 8, 1)

    def poison(status: Status) -> None:
        if status.step == 3:  # the loss stays finite: without a look at the gradients only the next step would tell
            next(model.parameters()).register_hook(lambda gradient: gradient * float("inf"))  # type: ignore[no-untyped-call]

    run = run_of(data, dataclasses.replace(recipe, steps=4), tmp_path / "a.safetensors", poison)
    run.save_minutes = 1e-9  # after every step
    expected = (
        r"the gradients became infinite or no number at step 3; a\.safetensors is kept as of step 3; .* with --init-from it"
    )
    with pytest.raises(MachineError, match=expected):
        train(run, model)
    stored, card = checkpoint.load(run.output)
    assert card.recipe["train.done_steps"] == "3"
    assert all(bool(p.isfinite().all()) for p in stored.parameters())


def test_what_is_no_number_is_not_saved_by_ctrl_c(data: PatchSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = vdsr(8, 8, 1)

    def poison_and_stop(status: Status) -> None:
        if status.step == 2:
            next(model.parameters()).register_hook(lambda gradient: gradient * float("nan"))  # type: ignore[no-untyped-call]
        if status.step == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop._Loop, "watched", property(lambda self: False))  # as between two looks on CUDA
    run = run_of(data, SGD, tmp_path / "a.safetensors", poison_and_stop)
    with pytest.raises(MachineError, match="at step 2; nothing was saved before"):
        train(run, model)
    assert not run.output.exists()


def test_micro_batches_train_as_one_batch_does(data: PatchSource, tmp_path: Path) -> None:
    whole = run_of(data, SGD, tmp_path / "whole.safetensors")
    parts = run_of(data, dataclasses.replace(SGD, batch_size=1, accumulate=4), tmp_path / "parts.safetensors")
    for run in (whole, parts):
        train(run, vdsr(8, 8, 1))
    a, b = (checkpoint.tensors(run.output) for run in (whole, parts))
    # float32 sums in another order: a few units of the last place (6e-8) of weights below 1
    assert all(torch.allclose(a[name], b[name], rtol=0.0, atol=1e-6) for name in a)
    longer = run_of(data, dataclasses.replace(SGD, steps=7, batch_size=2, accumulate=2), parts.output)
    train(longer, vdsr(8, 8, 1), resume=True)  # the same 4 patches a step
    assert checkpoint.read_card(longer.output).recipe["train.done_steps"] == "7"


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (Recipe(steps=3, batch_size=4), 3),
        (Recipe(epochs=0.1, batch_size=4), 2),  # 3 pictures of 64x64 hold 48 patches of 16x16: 12 steps an epoch
        (Recipe(steps=5, epochs=0.1, batch_size=4), 2),
        (Recipe(steps=3, epochs=10, batch_size=4), 3),
        (Recipe(minutes=1e-6, batch_size=4), 1),
    ],
)
def test_the_first_length_reached_ends_training(data: PatchSource, tmp_path: Path, recipe: Recipe, expected: int) -> None:
    run = run_of(data, recipe, tmp_path / "a.safetensors")
    train(run, vdsr(8, 8, 1))
    assert checkpoint.read_card(run.output).recipe["train.done_steps"] == str(expected)


def test_bf16_trains_on_the_cpu(data: PatchSource, tmp_path: Path) -> None:
    run = run_of(data, dataclasses.replace(SGD, precision="bf16"), tmp_path / "a.safetensors")
    model = train(run, vdsr(8, 8, 1))
    assert all(p.dtype == torch.float32 and bool(p.isfinite().all()) for p in model.parameters())
    full = run_of(data, SGD, tmp_path / "b.safetensors")
    train(full, vdsr(8, 8, 1))
    half, single = (checkpoint.tensors(r.output)["conv1.weight"] for r in (run, full))
    assert not torch.equal(half, single)
    assert torch.allclose(half, single, atol=0.05)  # six steps, each off by bf16's 2 ** -8


def test_every_step_is_reported(data: PatchSource, tmp_path: Path) -> None:
    seen: list[Status] = []
    train(run_of(data, SGD, tmp_path / "a.safetensors", seen.append), vdsr(8, 8, 1))
    assert [status.step for status in seen] == [1, 2, 3, 4, 5, 6]
    assert [status.fraction for status in seen] == pytest.approx([k / 6 for k in range(1, 7)])
    assert all(status.lr == 0.1 and status.images_per_s > 0 for status in seen)


def test_trained_network_is_in_evaluation_mode_and_on_disk(data: PatchSource, tmp_path: Path) -> None:
    run = run_of(data, SGD, tmp_path / "a.safetensors")
    model = train(run, vdsr(8, 8, 1))
    assert not model.training
    stored, card = checkpoint.load(run.output)
    x = torch.rand(1, 1, 12, 12)
    assert torch.allclose(stored(x), model(x), atol=1e-6)  # channels_last sums in another order
    assert card.recipe["train.lr"] == "0.1"
    assert card.recipe["train.loss"] == "mse"


def test_validation_is_reported_at_every_checkpoint(data: PatchSource, photos: Path, tmp_path: Path) -> None:
    seen: list[Status] = []
    run = run_of(data, dataclasses.replace(SGD, steps=2), tmp_path / "a.safetensors", seen.append)
    run.validation = load_validation(photos, (2, 3))
    run.save_minutes = 1e-9  # after every step
    train(run, vdsr(8, 8, 1))
    assert [status.step for status in run.history] == [1, 2, 2]
    assert [status for status in seen if status.psnr_db is not None] == run.history


def test_validation_of_an_identity_is_bicubic(photos: Path) -> None:
    model = vdsr(8, 8, 1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    planes: list[Plane] = list(load_validation(photos, (2, 3)))
    expected = {scale: mean([score(bicubic, hr, scale) for hr in planes]).psnr_db for scale in (2, 3)}
    assert validate(model, planes, (2, 3)) == expected
