from __future__ import annotations

import pytest
import torch

from sr_deploy.errors import InputError
from sr_deploy.train.loop.optimizers import clip_, make_optimizer
from sr_deploy.train.loop.recipe import Recipe
from sr_deploy.train.loop.schedule import learning_rate
from sr_deploy.train.networks.registry import build


def with_gradients(values: float) -> torch.nn.Module:
    network = build("vdsr", (2, 1))
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, values)
    return network


def gradients(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


def test_defaults_are_the_papers() -> None:
    recipe = Recipe(epochs=80)
    assert (recipe.batch_size, recipe.optimizer, recipe.lr, recipe.momentum, recipe.weight_decay) == (64, "sgd", 0.1, 0.9, 1e-4)
    assert (recipe.schedule, recipe.lr_step, recipe.clip_mode) == ("step", 20.0, "value")


def test_a_recipe_needs_a_length() -> None:
    with pytest.raises(InputError, match="training has no length; give --steps, --epochs or --minutes"):
        Recipe()


@pytest.mark.parametrize("name", ["steps", "epochs", "minutes", "batch_size", "lr", "lr_step", "clip"])
@pytest.mark.parametrize("value", [0, -1])
def test_what_must_be_positive_is_refused_by_name(name: str, value: int) -> None:
    with pytest.raises(InputError, match=f"--{name.replace('_', '-')} {value} is not above 0"):
        Recipe(**{"epochs": 1.0, name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("epoch", "expected"), [(0.0, 0.1), (19.9, 0.1), (20.0, 0.01), (39.9, 0.01), (40.0, 0.001), (60.0, 1e-4)]
)
def test_step_schedule_divides_by_ten_every_twenty_epochs(epoch: float, expected: float) -> None:
    found = learning_rate(Recipe(epochs=80), round(epoch * 10), 0.5, steps_per_epoch=10)
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("fraction", "expected"), [(0.0, 0.1), (0.25, 0.0853553), (0.5, 0.05), (1.0, 0.0), (1.5, 0.0)])
def test_cosine_schedule_falls_to_zero(fraction: float, expected: float) -> None:
    recipe = Recipe(steps=100, schedule="cosine")
    assert learning_rate(recipe, 0, fraction, steps_per_epoch=10) == pytest.approx(expected, abs=1e-6)


def test_warm_up_rises_linearly_and_ends() -> None:
    recipe = Recipe(steps=100, warmup=3)
    found = [learning_rate(recipe, step, 0.0, steps_per_epoch=1000) for step in range(6)]
    assert found == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1, 0.1])


def test_value_mode_clips_each_gradient_to_theta_over_lr() -> None:
    network = with_gradients(5.0)
    clip_(network, Recipe(steps=1, clip=0.01), 0.1)
    assert torch.allclose(gradients(network), torch.tensor(0.1))
    clip_(network, Recipe(steps=1, clip=0.01), 0.001)  # a lower learning rate allows more
    assert torch.allclose(gradients(network), torch.tensor(0.1))


def test_norm_mode_clips_the_common_norm() -> None:
    network = with_gradients(5.0)
    clip_(network, Recipe(steps=1, clip=0.4, clip_mode="norm"), 0.1)
    assert gradients(network).norm().item() == pytest.approx(0.4, rel=1e-4)


def test_none_mode_leaves_gradients() -> None:
    network = with_gradients(5.0)
    clip_(network, Recipe(steps=1, clip_mode="none"), 0.1)
    assert torch.all(gradients(network) == 5.0)


def test_optimizers_take_their_values_from_the_recipe() -> None:
    network = build("vdsr", (2, 1))
    sgd = make_optimizer(network, Recipe(steps=1)).param_groups[0]
    assert (sgd["lr"], sgd["momentum"], sgd["weight_decay"]) == (0.1, 0.9, 1e-4)
    adam = make_optimizer(network, Recipe(steps=1, optimizer="adam", momentum=0.8, weight_decay=0.0)).param_groups[0]
    assert (adam["betas"], adam["weight_decay"]) == ((0.8, 0.999), 0.0)
