"""SRGAN's training: what both losses ask for, the step that alternates, and ``sr-train --arch srgan``."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import safetensors.torch
import torch
from lightning.fabric import Fabric

from sr_deploy.errors import InputError
from sr_deploy.train.command import main
from sr_deploy.train.loop.adversarial import Adversarial, Alternating, GanLoss, fooling_loss, telling_loss
from sr_deploy.train.loop.recipe import Recipe
from sr_deploy.train.loop.stepper import MicroBatch
from sr_deploy.train.losses.content import Content, Wish, choose_content
from sr_deploy.train.losses.expression import mean_squared
from sr_deploy.train.networks.registry import build
from sr_deploy.train.weights import checkpoint

KINDS: tuple[GanLoss, ...] = ("bce", "lsgan")
LOSS = "1*MSE+0.01*GAN"


def recipe(loss: str = LOSS, gan_loss: GanLoss = "bce", lr: float = 1e-3) -> Recipe:
    return Recipe(
        steps=9, batch_size=4, optimizer="adam", lr=lr, weight_decay=0.0, clip_mode="none", loss=loss, gan_loss=gan_loss
    )


def stepper(r: Recipe, content: Content | None = None) -> Alternating:
    torch.manual_seed(0)
    network = build("srresnet", config={"scale": 2, "blocks": 1, "features": 8})
    fabric = Fabric(accelerator="cpu", devices=1)
    return Adversarial(1, 16, content or Content("pixel"))(fabric, network, r, compiled=False)


def batch(seed: int = 0) -> MicroBatch:
    generator = torch.Generator().manual_seed(seed)
    return MicroBatch(torch.rand(4, 1, 8, 8, generator=generator), torch.rand(4, 1, 16, 16, generator=generator))


def test_bce_is_the_non_saturating_form() -> None:
    said = torch.tensor([[-3.0], [0.5]])
    expected = torch.stack([-torch.log(torch.sigmoid(value)) for value in said]).mean()
    assert torch.allclose(fooling_loss(said, "bce"), expected)
    assert torch.allclose(telling_loss(said, "bce", real=True), expected)
    assert torch.allclose(telling_loss(said, "bce", real=False), -torch.log(1.0 - torch.sigmoid(said)).mean())


@pytest.mark.parametrize("kind", KINDS)
def test_what_pleases_one_displeases_the_other(kind: GanLoss) -> None:
    low, high = torch.full((3, 1), 0.1), torch.full((3, 1), 0.9)
    assert float(fooling_loss(high, kind)) < float(fooling_loss(low, kind))
    assert float(telling_loss(high, kind, real=False)) > float(telling_loss(low, kind, real=False))
    assert float(telling_loss(high, kind, real=True)) < float(telling_loss(low, kind, real=True))


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_moves_both_networks_and_reports_every_term(kind: GanLoss) -> None:
    made = stepper(recipe(gan_loss=kind))
    before = {name: [p.clone() for p in module.parameters()] for name, module in made.modules.items()}
    outcome = made.step([batch()], 1e-3)
    assert list(outcome.losses) == ["loss", "MSE", "GAN", "discriminator"] and bool(outcome.finite)
    expected = float(outcome.losses["MSE"] + 0.01 * outcome.losses["GAN"])
    assert float(outcome.losses["loss"]) == pytest.approx(expected, rel=1e-5)
    for name, module in made.modules.items():
        assert all(not torch.equal(a, b) for a, b in zip(before[name], module.parameters(), strict=True)), name


def test_the_generators_turn_leaves_no_gradients_in_the_discriminator() -> None:
    made = stepper(recipe())
    fakes, told = made._move_discriminator([batch()], 1e-3)
    made.judge_wrapped.zero_grad()
    before = [p.clone() for p in made.network.parameters()]
    made._move_generator([batch()], fakes, told, 1e-3)
    assert all(p.grad is None and p.requires_grad for p in made.discriminator.parameters())
    assert all(not torch.equal(a, b) for a, b in zip(before, made.network.parameters(), strict=True))


def test_the_discriminator_learns_to_tell_them_apart() -> None:
    made = stepper(recipe(lr=1e-3))
    losses = [float(made.step([batch(k % 2)], 1e-3).losses["discriminator"]) for k in range(16)]
    assert losses[0] == pytest.approx(2.0 * math.log(2.0), abs=0.3)  # of two classes it knows nothing yet
    assert losses[-1] < 0.6 * losses[0]


def test_the_pixel_term_alone_is_what_the_generator_follows_without_weight_on_the_other() -> None:
    made = stepper(recipe("1*MSE+1e-9*GAN"))
    outcome = made.step([batch()], 0.0)
    with torch.no_grad():
        expected = mean_squared(made.network.train()(batch().degraded), batch().original)
    assert float(outcome.losses["loss"]) == pytest.approx(float(expected), rel=1e-4)


def gradients(seeds: tuple[int, ...]) -> dict[str, list[torch.Tensor]]:
    """Return the gradients of both networks after a step that moves nothing."""
    made = stepper(recipe())
    made.step([batch(seed) for seed in seeds], 0.0)
    return {name: [p.grad.clone() for p in module.parameters() if p.grad is not None] for name, module in made.modules.items()}


def test_the_gradients_of_micro_batches_are_averaged() -> None:
    one, two, both = gradients((0,)), gradients((1,)), gradients((0, 1))
    for name in ("net", "discriminator"):
        assert len(both[name]) == len(one[name]) > 5
        for a, b, mean in zip(one[name], two[name], both[name], strict=True):
            assert torch.allclose((a + b) / 2.0, mean, rtol=1e-4, atol=1e-6)  # float32 sums in another order


def test_fp16_and_compiling_are_refused() -> None:
    fabric = Fabric(accelerator="cpu", devices=1)
    network = build("srresnet", config={"scale": 2, "blocks": 1, "features": 8})
    with pytest.raises(InputError, match="--compile: not with a GAN term"):
        Adversarial(1, 16, Content("pixel"))(fabric, network, recipe(), compiled=True)


def test_pixel_content_takes_the_place_of_features() -> None:
    assert choose_content("0.006*VGG54+0.001*GAN", Wish("pixel"))[0] == "4*MSE+0.001*GAN"
    assert choose_content("0.0012345678*L1+0.006*VGG54+0.001*GAN", Wish("pixel"))[0] == "0.0012345678*L1+0.001*GAN"
    text, content = choose_content("1*VGG22+0.001*GAN", Wish("random-vgg", distance="l1"))
    assert text == "1*VGG22+0.001*GAN" and content.name == "VGG19 with random weights, l1"
    assert choose_content("l1", Wish()) == ("l1", Content("pixel"))  # nothing is looked for that is not needed


@pytest.mark.parametrize(
    ("loss", "wish", "words"),
    [
        ("1*L1", Wish(path=Path("vgg19.pth")), "--vgg vgg19.pth: --loss '1\\*L1' has no term that uses it"),
        ("l1", Wish("random-vgg"), "--content random-vgg: --loss 'l1' has no term that uses it"),
        ("l1", Wish(distance="l1"), "--vgg-distance l1: --loss 'l1' has no term that uses it"),
        ("1*VGG54", Wish("pixel", Path("vgg19.pth")), "is not used with --content pixel"),
    ],
)
def test_what_is_not_used_is_told(loss: str, wish: Wish, words: str) -> None:
    with pytest.raises(InputError, match=words):
        choose_content(loss, wish)


def test_a_gan_loss_without_a_gan_term_is_told(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(photos, tmp_path / "o.safetensors", "--arch", "edsr", "--scale", "2", "--steps", "1", "--gan-loss", "lsgan") == 2
    assert "--gan-loss lsgan: --loss 'l1' has no GAN term" in capsys.readouterr().err


def train(photos: Path, output: Path, *more: str) -> int:
    size = ["--blocks", "1", "--width", "8", "--patch", "32", "--batch-size", "2", "--threads", "1", "--workers", "0"]
    return main([str(photos), "-o", str(output), *size, *more])


def test_srgan_starts_from_srresnet_and_is_one(photos: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "srresnet.safetensors", tmp_path / "srgan.safetensors"
    assert train(photos, first, "--arch", "srresnet", "--steps", "2") == 0
    assert train(photos, second, "--arch", "srgan", "--steps", "3", "--init-from", str(first), "--content", "random-vgg") == 0
    network, card = checkpoint.load(second)
    assert card.arch == "srresnet" and card.scales == (4,) and card.parent_digest == checkpoint.read_card(first).digest
    assert card.recipe["train.loss"] == "0.006*VGG54+0.001*GAN" and card.recipe["train.schedule"] == "drop"
    assert card.recipe["train.content"] == "VGG19 with random weights, mse" and "train.gan_loss" not in card.recipe
    assert network(torch.rand(1, 1, 8, 8)).shape == (1, 1, 32, 32)


def losses_in(state: Path) -> list[list[object]]:
    """Return the running means in a training state."""
    content = state.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    found: list[list[object]] = json.loads(header["__metadata__"]["run"])["losses"]
    return found


def test_a_run_that_stops_in_between_ends_as_if_it_had_not(photos: Path, tmp_path: Path) -> None:
    options = ["--arch", "srgan", "--content", "pixel", "--schedule", "halve"]
    assert train(photos, tmp_path / "whole.safetensors", *options, "--steps", "4") == 0
    assert train(photos, tmp_path / "parts.safetensors", *options, "--steps", "2") == 0
    assert train(photos, tmp_path / "parts.safetensors", *options, "--steps", "4", "--resume") == 0
    whole, parts = (checkpoint.tensors(tmp_path / f"{name}.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    states = [safetensors.torch.load_file(tmp_path / f"{name}.train.safetensors") for name in ("whole", "parts")]
    assert states[0].keys() == states[1].keys() and any(name.startswith("discriminator_opt.") for name in states[0])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    means = [losses_in(tmp_path / f"{name}.train.safetensors") for name in ("whole", "parts")]
    assert means[0] == means[1] and [name for name, _ in means[0]] == ["loss", "MSE", "GAN", "discriminator"]
    assert checkpoint.read_card(tmp_path / "parts.safetensors").recipe["train.loss"] == "4*MSE+0.001*GAN"


def test_without_vggs_weights_training_stops_and_says_so(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("sr_deploy.train.losses.vgg.ADDRESS", "http://127.0.0.1:9/vgg19-dcbb9e9d.pth")  # nobody listens there
    assert train(photos, tmp_path / "o.safetensors", "--arch", "srgan", "--steps", "1") == 3
    captured = capsys.readouterr().err
    assert captured.count("\n") == 1 and "--vgg FILE, or choose --content pixel or random-vgg" in captured
    assert not (tmp_path / "o.safetensors").exists()


def test_patches_of_several_sizes_are_refused(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--arch", "mdsr", "--loss", LOSS, "--steps", "1", "--scale", "2", "3", "--patch", "16"]
    assert train(photos, tmp_path / "o.safetensors", *options) == 2
    assert "--scale 2 3: the discriminator of --loss '1*MSE+0.01*GAN' judges one size" in capsys.readouterr().err


def test_a_patch_that_the_discriminator_cannot_judge_is_told(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        train(photos, tmp_path / "o.safetensors", "--arch", "srgan", "--content", "pixel", "--steps", "1", "--patch", "40") == 2
    )
    assert "--patch 40: the discriminator takes multiples of 16" in capsys.readouterr().err


def test_a_pruned_generator_is_tuned_by_its_own_loss_and_content(photos: Path, tmp_path: Path) -> None:
    from sr_deploy.compress.command import main as prune

    dense, pruned = tmp_path / "srgan.safetensors", tmp_path / "pruned.safetensors"
    loss = ["--loss", "1*MSE+0.006*VGG22+0.001*GAN", "--content", "random-vgg", "--gan-loss", "lsgan", "--vgg-distance", "l1"]
    assert train(photos, dense, "--arch", "srgan", "--steps", "1", *loss) == 0
    small = ["--finetune-steps", "2", "--batch-size", "2", "--threads", "1", "--workers", "0"]
    assert prune([str(dense), "-o", str(pruned), "--data", str(photos), *small]) == 0
    card = checkpoint.read_card(pruned)
    assert card.recipe["train.loss"] == loss[1] and card.recipe["train.content"] == "VGG19 with random weights, l1"
    assert card.recipe["train.gan_loss"] == "lsgan"
    assert card.recipe["data.patch"] == "32" and card.config["norm"] == 0


@pytest.mark.slow
def test_processes_with_micro_batches_move_as_one_with_all_patches(photos: Path, tmp_path: Path) -> None:
    options = ["--arch", "srgan", "--content", "pixel", "--steps", "2", "--lr", "1e-4"]
    assert train(photos, tmp_path / "two.safetensors", *options, "--devices", "2", "--accumulate", "2") == 0
    assert train(photos, tmp_path / "one.safetensors", *options, "--accumulate", "4") == 0
    one, two = (checkpoint.tensors(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    moved = [name for name in one if name.endswith("weight")]
    # Micro-batches are the same patches in both, so batch normalisation sees the same; gradients are added in another order,
    # and Adam's first steps have the size of the learning rate whatever the gradient's, so a sign may differ where it is tiny.
    apart = torch.cat([(one[name] - two[name]).abs().flatten() for name in moved])
    assert float(apart.mean()) < 2e-6 and float((apart > 1e-4).float().mean()) < 0.01
