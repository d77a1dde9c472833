"""Fine-tuning with the dense network as teacher."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import Tensor, nn

from sr_deploy.compress.pruning.masks import native_masks
from sr_deploy.compress.pruning.removal import mask_filters, without_filters
from sr_deploy.compress.teaching.distill import Distilling, TaughtStepper, What, feature_error, units_of
from sr_deploy.compress.teaching.features import Survivors, layers_of, reading
from sr_deploy.errors import InputError
from sr_deploy.train.loop.devices import Place, make_fabric
from sr_deploy.train.loop.recipe import Recipe
from sr_deploy.train.loop.stepper import MicroBatch, PixelStepper
from sr_deploy.train.losses.expression import Objective, half_sum_of_squares
from sr_deploy.train.networks.network import Network
from sr_deploy.train.networks.registry import build, convolutions
from tests.helpers.networks import kept_at

FAMILIES: dict[str, dict[str, float]] = {
    "vdsr": {"features": 8},
    "edsr": {"blocks": 2, "features": 8, "scale": 2},
    "srresnet": {"blocks": 2, "features": 8, "scale": 4},
    "msrresnet": {"blocks": 2, "features": 8, "scale": 3},
    "mdsr": {"blocks": 2, "features": 8},
}
RECIPE = Recipe(steps=1, optimizer="adam", lr=1e-3, weight_decay=0.0, clip_mode="none")


def random_network(arch: str, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    network = build(arch, config=FAMILIES[arch]).folded()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    return network.eval()


def batch_for(arch: str, seed: int = 1, scale: int = 3) -> MicroBatch:
    torch.manual_seed(seed)
    factor = 1 if arch == "vdsr" else scale if arch == "mdsr" else int(FAMILIES[arch]["scale"])
    side = 12
    original = torch.rand(2, 1, side * factor, side * factor)
    return MicroBatch(torch.rand(2, 1, side, side), original, scale if arch == "mdsr" else None)


def stepper_of(student: Network, options: Distilling, recipe: Recipe = RECIPE) -> TaughtStepper:
    fabric = make_fabric("cpu", "fp32", Place(), branched=False)
    return options(fabric, student, recipe, compiled=False)


def terms_of(stepper: TaughtStepper, batch: MicroBatch) -> dict[str, float]:
    return {name: float(value.detach()) for name, value in stepper.losses_of(batch).items()}


def taught_by(teacher: Network, what: What, kept: dict[str, Tensor], batch: MicroBatch) -> Distilling:
    return Distilling(teacher, what, 0.5, kept=kept, units=units_of(teacher, kept, [batch], Objective("mse")))


def halved(network: Network) -> tuple[Network, Survivors]:
    masks = native_masks(network, kept_at(network, 0.5))
    left = Survivors(network)
    left.remove_(masks)
    return without_filters(network, masks), left


@pytest.mark.parametrize("arch", FAMILIES)
@pytest.mark.parametrize("what", ["output", "features", "both"])
def test_a_student_that_equals_its_teacher_has_nothing_to_learn(arch: str, what: What) -> None:
    network = random_network(arch)
    kept = Survivors(network).read_by(layers_of(network))
    student = random_network(arch)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    stepper = stepper_of(student, Distilling(network, what, weight=1.0, kept=kept, units=dict.fromkeys(kept, 1.0)))
    outcome = stepper.step([batch_for(arch)], lr=1e-3)
    # PReLU and sums in another memory layout differ by rounding at most.
    assert float(outcome.losses["loss"]) == pytest.approx(0.0, abs=1e-9)
    assert set(outcome.losses) == {"loss", "mse", *(("output", "features") if what == "both" else (what,))}
    assert float(outcome.losses["mse"]) > 0.1
    if float(outcome.losses["loss"]) == 0.0:
        assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


@pytest.mark.parametrize("arch", FAMILIES)
def test_features_are_those_of_the_channels_that_were_kept(arch: str) -> None:
    """The masked network computes in the kept channels what the small one computes."""
    network = random_network(arch)
    masks = native_masks(network, kept_at(network, 0.5))
    small, left = halved(network)
    zeroed, batch, layers = mask_filters(network, masks), batch_for(arch), layers_of(network)
    assert 1 < len(layers) <= 4
    with torch.no_grad(), reading(small, layers) as ours, reading(zeroed, layers) as theirs:
        batch.through(small)
        batch.through(zeroed)
    kept = left.read_by(layers)
    assert set(kept) == set(layers)
    for name in layers:
        assert ours[name].shape[1] == len(kept[name]) < theirs[name].shape[1]
        # Sums over fewer channels are rounded otherwise.
        assert torch.allclose(ours[name], theirs[name][:, kept[name]], atol=1e-6)
    assert float(feature_error(ours, theirs, kept, dict.fromkeys(kept, 1.0))) < 1e-10


@pytest.mark.parametrize(("arch", "layer"), [("vdsr", "conv2"), ("edsr", "body.0.conv1"), ("mdsr", "body.0.conv1")])
def test_what_no_removed_channel_reached_is_learnt_already(arch: str, layer: str) -> None:
    network = random_network(arch)
    if arch == "mdsr":  # its head feeds blocks of their own: those are silenced
        with torch.no_grad():
            for name, conv in convolutions(network).items():
                if name.startswith("pre.") and name.endswith("conv2"):
                    conv.weight.zero_()
                    assert conv.bias is not None
                    conv.bias.zero_()
    small, left = halved(network)
    first = stepper_of(small, taught_by(network, "features", left.read_by([layer]), batch_for(arch)))
    assert terms_of(first, batch_for(arch))["features"] == pytest.approx(0.0, abs=1e-9)
    later = layers_of(network)[-1]
    second = stepper_of(small, taught_by(network, "features", left.read_by([later]), batch_for(arch)))
    assert terms_of(second, batch_for(arch))["features"] > 1e-3


def test_other_channels_than_those_kept_are_seen() -> None:
    network = random_network("vdsr")
    small, left = halved(network)
    right = left.read_by(["conv2"])
    wrong = {"conv2": torch.tensor([n for n in range(8) if n not in right["conv2"].tolist()])}
    stepper = stepper_of(small, taught_by(network, "features", wrong, batch_for("vdsr")))
    assert terms_of(stepper, batch_for("vdsr"))["features"] > 0.1


def test_channels_are_counted_as_the_dense_network_counts_them_after_two_removals() -> None:
    network = random_network("edsr")
    left, small = Survivors(network), network
    for sparsity in (0.25, 0.5):
        masks = native_masks(small, kept_at(small, sparsity))
        left.remove_(masks)
        small = without_filters(small, masks)
    kept = left.read_by(["body.1.conv2"])["body.1.conv2"]
    assert len(kept) == 3
    weights = [convolutions(one)["body.1.conv1"].weight for one in (network, small)]
    stream = left.read_by(["body.1.conv1"])["body.1.conv1"]
    assert torch.equal(weights[0][kept][:, stream], weights[1])


def test_the_mixture_is_that_of_the_weight() -> None:
    network = random_network("vdsr")
    small, _ = halved(network)
    batch = batch_for("vdsr")
    with torch.no_grad():
        result, wanted = small(batch.degraded), network(batch.degraded)
    expected = 0.7 * half_sum_of_squares(result, batch.original) + 0.3 * half_sum_of_squares(result, wanted)
    found = terms_of(stepper_of(small, Distilling(network, "output", 0.3)), batch)
    assert found["loss"] == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("arch", ["vdsr", "mdsr"])
def test_accumulated_batches_average_and_the_teacher_stays(arch: str) -> None:
    network = random_network(arch)
    small, left = halved(network)
    options = taught_by(network, "both", left.read_by(layers_of(network)), batch_for(arch))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    stepper = stepper_of(small, options)
    batches = [batch_for(arch, seed, scale) for seed, scale in ((1, 2), (2, 3))]
    alone = [terms_of(stepper, batch)["loss"] for batch in batches]
    outcome = stepper.step(batches, lr=1e-3)
    assert float(outcome.losses["loss"]) == pytest.approx(sum(alone) / 2, rel=1e-5)
    assert bool(outcome.finite)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(parameter.grad is not None for parameter in network.parameters())
    assert list(stepper.modules) == ["net"]  # the teacher is no part of a training state


def test_the_maker_is_sent_by_value() -> None:
    network = random_network("vdsr")
    small, left = halved(network)
    options = taught_by(network, "features", left.read_by(layers_of(network)), batch_for("vdsr"))
    copied: Distilling = pickle.loads(pickle.dumps(options))
    batch = batch_for("vdsr")
    ours, theirs = (terms_of(stepper_of(small, one), batch) for one in (options, copied))
    assert ours == theirs


def test_the_step_without_a_teacher_is_unchanged() -> None:
    """The mixture at a weight of nearly nothing is the plain step: the same gradient path, to rounding."""
    plain, taught = random_network("edsr"), random_network("edsr")
    batch, fabric = batch_for("edsr"), make_fabric("cpu", "fp32", Place(), branched=False)
    PixelStepper(fabric, plain, RECIPE).step([batch], lr=1e-3)
    stepper_of(taught, Distilling(random_network("edsr", 5), "output", 1e-12)).step([batch], lr=1e-3)
    for ours, theirs in zip(plain.parameters(), taught.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_units_make_layers_and_losses_comparable() -> None:
    network, batch = random_network("vdsr"), batch_for("vdsr")
    kept = {"conv2": torch.tensor([0, 3]), "conv20": torch.arange(8)}
    objective = Objective("mse")
    units = units_of(network, kept, [batch, batch], objective)
    with torch.no_grad(), reading(network, list(kept)) as seen:
        loss = float(objective(network(batch.degraded), batch.original)["loss"])
    for name, channels in kept.items():
        assert units[name] * float(seen[name][:, channels].square().mean()) == pytest.approx(loss, rel=1e-5)
    nothing = {name: torch.zeros_like(value)[:, kept[name]] for name, value in seen.items()}
    assert float(feature_error(nothing, seen, kept, units)) == pytest.approx(loss, rel=1e-5)  # all of it is wrong: one unit


def test_a_silent_layer_gives_no_infinity() -> None:
    network = random_network("vdsr")
    with torch.no_grad():
        convolutions(network)["conv1"].weight.zero_()
    assert units_of(network, {"conv2": torch.arange(4)}, [batch_for("vdsr")], Objective("mse")) == {"conv2": 0.0}


def test_layers_are_named_or_spaced_evenly() -> None:
    assert layers_of(build("vdsr")) == ("conv5", "conv10", "conv15", "conv20")
    assert layers_of(build("edsr", config={"scale": 2, "blocks": 16, "features": 8}))[-1] == "up.0"
    assert layers_of(build("mdsr", config=FAMILIES["mdsr"])) == ("body.0.conv1", "body.1.conv1", "body_end")
    assert layers_of(build("vdsr"), ["conv3", "conv3"]) == ("conv3",)
    with pytest.raises(InputError, match=r"--distill-layers up.x2.0: no convolution whose input can be compared; known: "):
        layers_of(build("mdsr", config=FAMILIES["mdsr"]), ["up.x2.0"])
    with pytest.raises(InputError, match="--distill-layers conv1: no convolution whose input can be compared"):
        layers_of(build("vdsr"), ["conv1"])


def test_hooks_are_gone_behind_the_block() -> None:
    network = random_network("vdsr")
    with reading(network, ["conv2"]) as seen:
        network(torch.rand(1, 1, 5, 5))
    before: Tensor = seen["conv2"]
    network(torch.rand(1, 1, 5, 5))
    assert seen["conv2"] is before
