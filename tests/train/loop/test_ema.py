from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from sr_deploy.errors import InputError
from sr_deploy.train.data.batches import PatchSource
from sr_deploy.train.loop.ema import Average
from sr_deploy.train.loop.loop import Run, train
from sr_deploy.train.loop.recipe import Recipe
from sr_deploy.train.loop.status import Report, Status
from sr_deploy.train.loop.validation import load_validation, validate
from sr_deploy.train.networks.registry import build, card_of
from sr_deploy.train.weights import checkpoint
from tests.helpers.networks import vdsr

EMA = Recipe(steps=6, batch_size=4, clip=1e-3, ema=0.9)


def silent(_: Status) -> None:
    return


def run_of(data: PatchSource, recipe: Recipe, output: Path, report: Report = silent) -> Run:
    card = card_of(vdsr(8, 8, 1), scales=(2,), default_scale=2)
    return Run(recipe=recipe, data=data, card=card, output=output, report=report, device="cpu", workers=0)


def filled(value: float) -> nn.Module:
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.fill_(int(value) if tensor.dtype == torch.int64 else value)
    return model


def test_weights_are_averaged_and_buffers_copied() -> None:
    average = Average(filled(0.0), 0.75)
    average.update(filled(8.0), 1)  # the decay of step 1 is 2 / 11
    assert all(torch.allclose(p, torch.tensor(8.0 * 9 / 11)) for p in average.network.parameters())
    assert all(bool((b == 8).all()) for b in average.network.buffers())
    average.update(filled(8.0), 10_000)  # and that of a late one 0.75
    assert all(torch.allclose(p, torch.tensor(8.0 - (8.0 - 8.0 * 9 / 11) * 0.75)) for p in average.network.parameters())
    assert not average.network.training and not any(p.requires_grad for p in average.network.parameters())


def test_the_checkpoint_holds_the_average_and_the_state_both(data: PatchSource, tmp_path: Path) -> None:
    expected = Average(vdsr(8, 8, 1), 0.9)
    model = vdsr(8, 8, 1)

    def follow(status: Status) -> None:
        expected.update(model, status.step)

    run = run_of(data, EMA, tmp_path / "a.safetensors", follow)
    returned = train(run, model)
    stored, state = checkpoint.tensors(run.output), safetensors.torch.load(run.state_path.read_bytes())
    plain = run_of(data, dataclasses.replace(EMA, ema=None), tmp_path / "b.safetensors")
    train(plain, vdsr(8, 8, 1))
    last = checkpoint.tensors(plain.output)
    for name, value in expected.network.state_dict().items():
        assert torch.equal(stored[name], value) and torch.equal(state[f"ema.{name}"], value)
        assert torch.equal(state[f"net.{name}"], last[name])  # averaging changes nothing in what is averaged
        assert torch.equal(returned.state_dict()[name], value)
    assert not torch.equal(stored["conv1.weight"], last["conv1.weight"])
    assert checkpoint.read_card(run.output).recipe["train.ema"] == "0.9"


def test_resuming_with_an_average_is_exact(data: PatchSource, tmp_path: Path) -> None:
    whole = run_of(data, EMA, tmp_path / "whole.safetensors")
    train(whole, vdsr(8, 8, 1))
    short = run_of(data, dataclasses.replace(EMA, steps=3), tmp_path / "parts.safetensors")
    train(short, vdsr(8, 8, 1))
    train(run_of(data, EMA, short.output), build("vdsr", (8, 8, 1)), resume=True)
    assert short.output.read_bytes() == whole.output.read_bytes()
    one, other = (safetensors.torch.load(run.state_path.read_bytes()) for run in (whole, short))
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_validation_measures_the_average(data: PatchSource, photos: Path, tmp_path: Path) -> None:
    run = run_of(data, EMA, tmp_path / "a.safetensors")
    run.validation = load_validation(photos, (2,))
    train(run, vdsr(8, 8, 1))
    stored = checkpoint.load(run.output)[0].to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert run.history[-1].psnr_db == validate(stored, run.validation, (2,))


@pytest.mark.parametrize(("first", "second"), [(0.9, None), (None, 0.9), (0.9, 0.99)])
def test_a_run_does_not_go_on_with_another_average(
    data: PatchSource, tmp_path: Path, first: float | None, second: float | None
) -> None:
    recipe = dataclasses.replace(EMA, steps=1, ema=first)
    train(run_of(data, recipe, tmp_path / "a.safetensors"), vdsr(8, 8, 1))
    with pytest.raises(InputError, match=f"was trained with ema {first}, not {second}"):
        train(run_of(data, dataclasses.replace(recipe, ema=second), tmp_path / "a.safetensors"), vdsr(8, 8, 1), resume=True)


@pytest.mark.parametrize("decay", [0.0, 1.0, float("nan"), -1.0])
def test_a_decay_out_of_range_is_refused(decay: float) -> None:
    with pytest.raises(InputError, match=rf"--ema {decay} is not between 0 and 1; 0\.999 is usual"):
        Recipe(steps=1, ema=decay)
