"""``sr-prune --qat``: where thresholds start, that training helps, and what the checkpoint says."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from sr_deploy.card import card_from_json
from sr_deploy.compress.command import main, parser
from sr_deploy.compress.options import PruneOptions
from sr_deploy.compress.qat.awareness import Awareness, begin_qat, is_perceptual, pixel_loss
from sr_deploy.compress.qat.fake_quantization import fake_quantize, kept_in, thresholds_in
from sr_deploy.compress.qat.placement import placement
from sr_deploy.compress.run import awareness_of
from sr_deploy.compress.teaching.distill import Distilling
from sr_deploy.degrade import network_pair
from sr_deploy.errors import InputError
from sr_deploy.options import options_from
from sr_deploy.planes import read_measured
from sr_deploy.thresholds import Counting, choose
from sr_deploy.train.data.batches import PatchSource
from sr_deploy.train.loop.devices import Place, make_fabric
from sr_deploy.train.loop.stepper import MicroBatch
from sr_deploy.train.networks.network import Network
from sr_deploy.train.networks.registry import build, card_of, convolutions
from sr_deploy.train.weights import checkpoint

SMALL = ("--batch-size", "4", "--patch", "24", "--shrink", "1", "--device", "cpu", "--workers", "0", "--threads", "1")
SHAPE = ("--reconstruct", "0", "--shape", "1", "1", "16", "16", "--pruner", "native")


@pytest.fixture
def dense(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    network = build("vdsr", (8, 8, 8, 1))
    card = card_of(network, scales=(2, 3), default_scale=2).with_changes(recipe={"train.lr": "0.1"})
    checkpoint.save(tmp_path / "dense.safetensors", network, card)
    return tmp_path / "dense.safetensors"


def learn(dense: Path, photos: Path, *more: str) -> tuple[int, Path]:
    output = dense.with_name("int8.safetensors")
    options = [str(dense), "-o", str(output), "--sparsity", "0", "--qat", "--data", str(photos), "--overwrite", *SMALL, *SHAPE]
    return main([*options, *more]), output


def plan_of(path: Path, photos: Path, *more: str) -> tuple[Network, Awareness, PatchSource]:
    network, card = checkpoint.load(path)
    options = [str(path), "-o", "x.safetensors", "--qat", "--data", str(photos), *SMALL, *more]
    plan = awareness_of(options_from(PruneOptions, parser().parse_args(options)), network, card)
    return network, plan, PatchSource(plan.data)


def test_thresholds_start_where_calibration_puts_them(dense: Path, photos: Path) -> None:
    network, plan, source = plan_of(dense, photos, "--qat-method", "minmax", "--batch-size", "64")
    start = thresholds_in(begin_qat(network, plan, source, "cpu"))
    assert list(start) == ["conv2", "conv3", "conv4"]  # conv1 reads the picture in float
    largest = dict.fromkeys(start, 0.0)
    with torch.no_grad():
        for step in range(200):  # more patches than any calibration of this size takes
            features = source.batch(size=64, seed=0, step=step).degraded
            for number in (1, 2, 3):
                features = torch.relu(convolutions(network)[f"conv{number}"](features))
                largest[f"conv{number + 1}"] = max(largest[f"conv{number + 1}"], float(features.max()))
    for name, value in start.items():
        assert 0.9 * largest[name] <= value <= largest[name]


def test_the_method_of_the_first_thresholds_is_the_exports(dense: Path, photos: Path) -> None:
    network, plan, source = plan_of(dense, photos)
    assert plan.method == "mse"
    start = thresholds_in(begin_qat(network, plan, source, "cpu"))
    seen: list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = []
    with torch.no_grad():
        for step in range(200):
            x = source.batch(size=4, seed=0, step=step).degraded
            seen.append(torch.relu(convolutions(network)["conv1"](x)).numpy())
    counting = Counting()
    for part in seen:
        counting.add_(part)
    # fewer patches of the same pictures: the choice moves by some bins
    assert start["conv2"] == pytest.approx(choose(counting.histogram(), "mse", name="conv2"), rel=0.1)


@pytest.mark.parametrize(
    ("arch", "config", "pairs"),
    [
        ("plain", {"scale": 2}, {"body.0", "tail"}),
        ("edsr", {"scale": 2}, {"body.0.conv1", "body.0.conv2", "body.0.conv2.output", "body_end", "up.0"}),
        ("edsr", {"scale": 2, "res_scale": 0.1}, {"body.0.conv1", "body.0.conv2", "body_end", "up.0"}),
        ("srresnet", {"scale": 2, "norm": 0}, {"body.0.conv1", "body.0.conv2", "body.0.conv2.output", "body_end", "up.0"}),
        ("msrresnet", {"scale": 2}, {"body.0.conv1", "body.0.conv2", "body.0.conv2.output", "up.0", "hr"}),
    ],
)
def test_networks_that_enlarge_have_their_pairs(arch: str, config: dict[str, float], pairs: set[str]) -> None:
    where = placement(build(arch, None, {"blocks": 1, "features": 8, **config}))
    assert (set(where.pairs), where.keep) == (pairs, ("head", "tail"))


def test_a_named_convolution_reads_and_computes_in_float() -> None:
    network = build("vdsr", (8, 8, 8, 8, 1))
    assert placement(network).pairs == ("conv2", "conv3", "conv4", "conv5")  # the last one reads integers
    assert placement(network, ["conv3"]) == placement(network, ["conv3", "conv1"])
    assert placement(network, ["conv3"]).pairs == ("conv2", "conv4", "conv5")
    assert placement(network, ["conv5"]).pairs == ("conv2", "conv3", "conv4")
    assert placement(network, ["conv4"]).pairs == ("conv2", "conv3")  # nothing in front of conv5 is in integers


def test_a_network_that_int8_harms_comes_nearer_to_its_teacher(dense: Path, photos: Path) -> None:
    """Thresholds of a fifth of what they should be clip every edge; some steps must win back most of that."""
    teacher, plan, source = plan_of(dense, photos, "--qat-lr", "1e-3", "--qat-steps", "60", "--qat-teacher-weight", "1")
    for part in teacher.parameters():
        part.data.mul_(2.0)  # so that there is more than the picture itself to lose
    good = thresholds_in(begin_qat(teacher, plan, source, "cpu"))
    rounded = fake_quantize(teacher, {name: 0.2 * value for name, value in good.items()}, plan.where.keep)
    given = network_pair(read_measured(photos / "0.png", "y"), 2, "before")[0] / np.float32(255.0)
    x = torch.from_numpy(given)[None, None]

    def psnr_db() -> float:
        with torch.no_grad():
            return -10.0 * math.log10(float((rounded(x) - teacher(x)).square().mean()))

    before = psnr_db()
    make = Distilling(teacher, "output", plan.teacher_weight)
    stepper = make(make_fabric("cpu", "fp32", Place()), rounded, plan.recipe, compiled=False)
    for step in range(60):
        batch = source.batch(size=8, seed=0, step=step)
        outcome = stepper.step([MicroBatch(batch.degraded, batch.original)], 1e-3 * (1.0 - step / 60))
        assert bool(outcome.finite) and "output" in outcome.losses
    assert psnr_db() > before + 4.0  # 7.8 dB when this was written
    assert all(value > 1.2 * 0.2 * good[name] for name, value in thresholds_in(rounded).items())


def test_the_table_shows_int8_before_and_after(dense: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert learn(dense, photos, "--qat-steps", "2", "--val", str(photos))[0] == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[3:7]] == ["dense", "pruned", "int8 before qat", "int8 after qat"]
    assert {line.split()[-4] for line in lines[3:7]} == {"1,296"}  # thresholds are no weights


def test_the_checkpoint_holds_float_weights_and_what_was_learned(dense: Path, photos: Path) -> None:
    code, output = learn(dense, photos, "--qat-steps", "3", "--keep", "conv2", "--qat-teacher-weight", "1")
    assert code == 0
    network, card = checkpoint.load(output)
    assert type(network) is type(build("vdsr", (8, 1))) and card.precision == "fp32"
    assert list(card.thresholds) == ["conv3", "conv4"] and card.keep == ("conv1", "conv2", "conv4")
    assert card.parent_digest == checkpoint.read_card(dense).digest
    expected = {
        "qat.teacher_weight": "1",
        "qat.first_thresholds": "mse",
        "train.done_steps": "3",
        "parent.train.lr": "0.1",
    }
    assert expected.items() <= card.recipe.items()
    assert card_from_json(card.to_json(), source="a card") == card
    again = fake_quantize(network, card.thresholds, card.keep)
    assert thresholds_in(again) == card.thresholds and kept_in(again) == card.keep
    moved = [not torch.equal(a, b) for a, b in zip(network.parameters(), checkpoint.load(dense)[0].parameters(), strict=True)]
    assert any(moved)
    assert sorted(p.name for p in dense.parent.glob("*.safetensors")) == ["dense.safetensors", "int8.safetensors"]


def test_equal_calls_write_equal_checkpoints(dense: Path, photos: Path) -> None:
    contents = [learn(dense, photos, "--qat-steps", "3")[1].read_bytes() for _ in range(2)]
    assert contents[0] == contents[1]


def test_pruning_and_fine_tuning_come_first(dense: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--data", str(photos), "--finetune-steps", "2", "--qat", "--qat-steps", "2", *SMALL, *SHAPE, "--val", str(photos)]
    output = dense.with_name("small.safetensors")
    assert main([str(dense), "-o", str(output), *options]) == 0
    card = checkpoint.read_card(output)
    assert card.widths == (4, 4, 4, 1) and list(card.thresholds) == ["conv2", "conv3", "conv4"]
    assert card.recipe["finetune.train.lr"] == "0.001" and card.recipe["train.lr"] == "0.0001"
    rows = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()]
    assert rows[3:8] == ["dense", "pruned", "fine-tuned", "int8 before qat", "int8 after qat"]


def test_other_weights_do_not_inherit_thresholds(dense: Path, photos: Path) -> None:
    _, output = learn(dense, photos, "--qat-steps", "1")
    small = dense.with_name("small.safetensors")
    assert main([str(output), "-o", str(small), *SHAPE]) == 0
    assert checkpoint.read_card(small).thresholds == {} and checkpoint.read_card(small).keep == ()


def test_an_average_of_the_weights_is_kept_with_that_of_the_thresholds(dense: Path, photos: Path) -> None:
    _, plain = learn(dense, photos, "--qat-steps", "4", "--qat-lr", "1e-2")
    last = checkpoint.read_card(plain).thresholds
    _, averaged = learn(dense, photos, "--qat-steps", "4", "--qat-lr", "1e-2", "--ema", "0.9")
    mean = checkpoint.read_card(averaged).thresholds
    assert mean.keys() == last.keys() and mean != last


def test_an_mdsr_learns_one_threshold_for_all_scales(tmp_path: Path, photos: Path) -> None:
    torch.manual_seed(0)
    network = build("mdsr", None, {"blocks": 1, "features": 8, "x4": 0})
    dense = tmp_path / "mdsr.safetensors"
    checkpoint.save(dense, network, card_of(network, scales=(2, 3), default_scale=2))
    code, output = learn(dense, photos, "--qat-steps", "4", "--patch", "12", "--val", str(photos))
    assert code == 0
    card = checkpoint.read_card(output)
    assert {
        "body.0.conv1",
        "body.0.conv2.output",
        "pre.x2.0.conv1",
        "pre.x3.0.conv1",
        "up.x2.0",
        "up.x3.0",
    } <= card.thresholds.keys()
    assert card.keep == ("head", "tail")
    assert card.recipe["qat.first_thresholds"] == "minmax"


def test_an_mdsr_trained_at_one_scale_only_is_refused(tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = build("mdsr", None, {"blocks": 1, "features": 8, "x4": 0})
    dense = tmp_path / "mdsr.safetensors"
    checkpoint.save(dense, network, card_of(network, scales=(2, 3), default_scale=2))
    code, output = learn(dense, photos, "--qat-steps", "1", "--patch", "24", "--scale", "2")
    assert code == 2 and not output.exists()
    message = "sr-prune: --scale 2: an mdsr learns thresholds for all its scales together; leave --scale out\n"
    assert capsys.readouterr().err == message


@pytest.mark.parametrize("arch", ["edsr", "srresnet"])
def test_networks_that_enlarge_learn(tmp_path: Path, photos: Path, arch: str) -> None:
    torch.manual_seed(0)
    network = build(arch, None, {"blocks": 1, "features": 8, "scale": 2})
    dense = tmp_path / "dense.safetensors"
    checkpoint.save(dense, network, card_of(network, scales=(2,), default_scale=2))
    code, output = learn(dense, photos, "--qat-steps", "2")
    assert code == 0
    assert "body.0.conv2.output" in checkpoint.read_card(output).thresholds


def test_a_checkpoint_saved_midway_says_what_it_learned_so_far(dense: Path, photos: Path) -> None:
    code, output = learn(dense, photos, "--qat-steps", "2", "--save-minutes", "0.0000001")
    assert code == 0 and checkpoint.read_card(output).thresholds


@pytest.mark.parametrize(
    ("loss", "pixels", "perceptual"),
    [
        ("mse", "mse", False),
        ("l1", "l1", False),
        ("1*L1+0.5*MSE", "1*L1+0.5*MSE", False),
        ("0.006*VGG54+0.001*GAN", "4*MSE", True),
        ("1*L1+0.006*VGG54", "1*L1", True),
    ],
)
def test_pixels_are_what_the_network_is_held_to(loss: str, pixels: str, perceptual: bool) -> None:
    assert (pixel_loss(loss), is_perceptual(loss)) == (pixels, perceptual)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--qat",), "--qat needs pictures; name a folder with --data"),
        (("--qat-steps", "5"), "--qat-steps 5 belongs to --qat; add --qat, or leave it out"),
        (("--keep", "conv1", "conv2"), "--keep conv1 conv2 belongs to --qat; add --qat, or leave it out"),
        (("--qat-teacher-weight", "0"), "--qat-teacher-weight 0.0 belongs to --qat; add --qat, or leave it out"),
    ],
)
def test_options_without_what_they_need_are_one_line(
    dense: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], message: str
) -> None:
    output = dense.with_name("int8.safetensors")
    assert main([str(dense), "-o", str(output), *more]) == 2
    assert capsys.readouterr().err == f"sr-prune: {message}\n"
    assert not output.exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--keep", "conv9"), "--keep conv9: no convolution of this network; known: conv1, conv2, conv3, conv4"),
        (("--keep", "conv2", "conv3"), "--keep: leaves no convolution to quantize"),
        (("--qat-teacher-weight", "1.5"), "--qat-teacher-weight 1.5 is not in 0 to 1; 1 leaves the originals out"),
        (("--qat-lr", "1e4"), "--lr 10000.0 is not in 1e-12 to 1000"),
    ],
)
def test_a_wrong_option_is_one_line_before_anything_is_done(
    dense: Path, photos: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], message: str
) -> None:
    code, output = learn(dense, photos, *more)
    assert code == 2 and not output.exists()
    shown = capsys.readouterr().err
    assert shown.startswith(f"sr-prune: {message}") and shown.count("\n") == 1


def test_a_network_that_nothing_flows_through_is_refused(dense: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network, card = checkpoint.load(dense)
    dead = copy.deepcopy(network)
    for part in convolutions(dead)["conv1"].parameters():
        part.data.zero_()
    checkpoint.save(dense, dead, card)
    code, _ = learn(dense, photos, "--qat-steps", "1")
    assert code == 2
    expected = "sr-prune: conv2: nothing flowed through it, the network is dead there; leave it out with --keep conv2\n"
    assert capsys.readouterr().err.endswith(expected)


def test_a_card_from_before_has_no_thresholds_and_a_damaged_one_is_refused(dense: Path) -> None:
    card = checkpoint.read_card(dense)
    old = card.to_json().replace('"keep":[],', "").replace('"thresholds":{},', "")
    assert 'thresholds":' not in old and card_from_json(old, source="a card") == card
    broken = card.with_changes(thresholds={"conv2": -1.0}).to_json()
    with pytest.raises(InputError, match=r"a card: its model card is damaged \(threshold -1.0 of conv2\)"):
        card_from_json(broken, source="a card")
