"""``sr-prune`` with a teacher, in rounds, to a budget, and to multiples."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from sr_deploy.compress.command import main
from sr_deploy.compress.pruning.masks import nni_installed
from sr_deploy.compress.pruning.rounds import recipe_of, steps_of
from sr_deploy.train.loop.recipe import Recipe
from sr_deploy.train.networks.registry import build, card_of, macs, widths_of
from sr_deploy.train.weights import checkpoint

SHAPE = (1, 1, 16, 16)
COMMON = ("--reconstruct", "0", "--shape", "1", "1", "16", "16", "--pruner", "native", "--device", "cpu")
FAMILIES: dict[str, dict[str, float]] = {
    "vdsr": {"features": 8},
    "edsr": {"blocks": 2, "features": 8, "scale": 2},
    "srresnet": {"blocks": 2, "features": 8, "scale": 4},
    "mdsr": {"blocks": 2, "features": 8},
}


def dense_of(folder: Path, arch: str, name: str = "dense", **config: float) -> Path:
    torch.manual_seed(0)
    network = build(arch, config={**FAMILIES[arch], **config}).folded()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.05)
    scales = (2, 3, 4) if arch in ("vdsr", "mdsr") else (int(FAMILIES[arch]["scale"]),)
    path = folder / f"{name}.safetensors"
    checkpoint.save(path, network, card_of(network, scales=scales, default_scale=scales[0]))
    return path


def tuned(photos: Path, arch: str, steps: int = 2) -> list[str]:
    side = {"vdsr": 16, "edsr": 24, "srresnet": 48, "mdsr": 12}[arch]
    return [
        *("--data", str(photos), "--finetune-steps", str(steps)),
        *("--batch-size", "2", "--patch", str(side), "--shrink", "1"),
    ]


def prune(dense: Path, *more: str) -> tuple[int, Path]:
    output = dense.with_name("small.safetensors")
    return main([str(dense), "-o", str(output), *COMMON, *more]), output


@pytest.mark.parametrize("arch", FAMILIES)
@pytest.mark.parametrize("what", ["output", "features", "both"])
def test_every_family_learns_from_the_dense_network(photos: Path, tmp_path: Path, arch: str, what: str) -> None:
    dense = dense_of(tmp_path, arch)
    more = ("--accumulate", "2", "--ema", "0.9") if what == "both" else ()
    code, output = prune(dense, *tuned(photos, arch), "--distill", what, *more)
    assert code == 0
    facts = checkpoint.read_card(output).recipe
    assert facts["prune.distill"] == what and facts["prune.distill_weight"] == "0.5" and facts["train.done_steps"] == "2"
    assert facts["prune.teacher"] == checkpoint.read_card(dense).digest
    assert ("prune.distill_layers" in facts) == (what != "output")


def test_a_teacher_changes_what_is_learnt_and_none_is_the_plain_way(photos: Path, tmp_path: Path) -> None:
    dense = dense_of(tmp_path, "vdsr")
    found = [
        prune(dense, *tuned(photos, "vdsr"), "--overwrite", *more)[1].read_bytes()
        for more in ((), ("--distill", "none"), ("--distill", "output"), ("--distill", "features", "--distill-layers", "conv9"))
    ]
    assert found[0] == found[1] and len(set(found)) == 3


@pytest.mark.slow
def test_processes_are_sent_the_teacher(photos: Path, tmp_path: Path) -> None:
    """Two processes with half the batch each learn what one learns, up to the order of sums."""
    dense = dense_of(tmp_path, "vdsr", features=4)
    one = [*tuned(photos, "vdsr"), "--distill", "both", "--overwrite", "--threads", "1"]
    assert prune(dense, *one, "--batch-size", "4")[0] == 0
    alone = checkpoint.tensors(tmp_path / "small.safetensors")
    assert prune(dense, *one, "--devices", "2")[0] == 0
    together = checkpoint.tensors(tmp_path / "small.safetensors")
    assert checkpoint.read_card(tmp_path / "small.safetensors").recipe["train.processes"] == "2"
    assert all(torch.allclose(alone[name], together[name], atol=1e-4) for name in alone)


def test_another_network_may_teach_its_output(photos: Path, tmp_path: Path) -> None:
    dense, teacher = dense_of(tmp_path, "edsr"), dense_of(tmp_path, "mdsr", "teacher", features=4)
    code, output = prune(dense, *tuned(photos, "edsr"), "--distill", "output", "--teacher", str(teacher), "--distill-weight", "1")
    assert code == 0
    facts = checkpoint.read_card(output).recipe
    assert facts["prune.teacher"] == checkpoint.read_card(teacher).digest and facts["prune.distill_weight"] == "1"


@pytest.mark.parametrize("arch", FAMILIES)
def test_rounds_end_at_the_widths_of_one_round(
    photos: Path, tmp_path: Path, arch: str, capsys: pytest.CaptureFixture[str]
) -> None:
    dense = dense_of(tmp_path, arch)
    _, output = prune(dense, "--sparsity", "0.4")
    widths = checkpoint.read_card(output).widths
    capsys.readouterr()
    more = ("--sparsity", "0.4", "--rounds", "2", "--distill", "features", "--overwrite")
    code, output = prune(dense, *tuned(photos, arch, 3), *more)
    assert code == 0
    network, card = checkpoint.load(output)
    assert card.widths == widths_of(network) == widths
    assert card.parent_digest == checkpoint.read_card(dense).digest
    assert card.recipe["prune.rounds"] == "2 of 2" and card.recipe["prune.sparsity"] == "0.4"
    assert card.recipe["train.steps"] == "2"  # of the last round: the three are shared as one and two
    assert len(json.loads(card.recipe["prune.round2.config_list"])) > 1
    shown = capsys.readouterr().out.splitlines()
    stages = ["dense", "pruned 1 of 2", "fine-tuned 1 of 2", "pruned 2 of 2", "fine-tuned 2 of 2"]
    assert [line.split("  ")[0] for line in shown[3:8]] == stages


def test_each_round_has_its_share_of_the_length() -> None:
    assert [steps_of(10, number, 3) for number in (1, 2, 3)] == [3, 3, 4]
    recipe = Recipe(steps=10, minutes=3.0, seed=5)
    parts = [recipe_of(recipe, number, 3) for number in (1, 2, 3)]
    assert [(part.steps, part.minutes, part.seed) for part in parts] == [(3, 1.0, 5), (3, 1.0, 6), (4, 1.0, 7)]
    assert recipe_of(recipe, 1, 1) is recipe


@pytest.mark.parametrize("arch", FAMILIES)
def test_a_budget_is_met(photos: Path, tmp_path: Path, arch: str, capsys: pytest.CaptureFixture[str]) -> None:
    dense = dense_of(tmp_path, arch)
    code, output = prune(dense, "--target-macs", "0.4", "--val", str(photos), "--json", str(tmp_path / "table.json"))
    assert code == 0
    before, after = (checkpoint.load(path)[0] for path in (dense, output))
    share = sum(macs(one, SHAPE) for one in after.at_each_scale()) / sum(macs(one, SHAPE) for one in before.at_each_scale())
    assert 0.3 < share <= 0.4
    assert json.loads((tmp_path / "table.json").read_text("utf-8"))["macs_share"] == pytest.approx(share)
    card = checkpoint.read_card(output)
    assert card.recipe["prune.target_macs"] == "0.4"
    assert {"sparse_ratio", "op_names"} <= set(json.loads(card.recipe["prune.config_list"])[0])
    shown = capsys.readouterr().out
    assert "agreement dB, 50% removed only here" in shown and f"{100 * share:.2f} %" in shown


@pytest.mark.slow
def test_layers_are_measured_on_training_pictures_where_they_are_given(photos: Path, tmp_path: Path) -> None:
    for arch in ("vdsr", "mdsr"):
        options = [*tuned(photos, arch), "--target-macs", "0.4", "--rounds", "2", "--overwrite"]
        assert prune(dense_of(tmp_path, arch), *options)[0] == 0
    options = ["--data", str(photos), "--patch", "12", "--shrink", "1", "--target-macs", "0.4", "--overwrite"]  # nothing is tuned
    assert prune(dense_of(tmp_path, "mdsr"), *options)[0] == 0


@pytest.mark.skipif(not nni_installed(), reason="NNI is not installed")
def test_both_pruners_make_the_same_of_a_budget(photos: Path, tmp_path: Path) -> None:
    dense = dense_of(tmp_path, "mdsr")
    more = ("--target-macs", "0.4", "--val", str(photos), "--overwrite")
    found = [prune(dense, *more, "--pruner", pruner)[1].read_bytes() for pruner in ("native", "nni")]
    assert found[0] == found[1]


def test_counts_are_rounded_up_and_the_table_says_what_it_costs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dense = dense_of(tmp_path, "edsr", features=24)
    code, output = prune(dense, "--sparsity", "0.6", "--round-to", "8")
    assert code == 0
    assert checkpoint.read_card(output).widths == (*(16,) * 6, 64, 1)  # of 24, 10 were asked; in front of the shuffle 4 make one
    assert checkpoint.read_card(output).recipe["prune.round_to"] == "8"
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split("  ")[0] == "channels of" and shown[0].split()[-3:] == ["dense", "asked", "kept"]
    assert shown[2].split() == ["body.0.conv1", "24", "10", "16"]
    assert shown[4].split() == ["head", "and", "3", "more", "24", "10", "16"]
    assert shown[6].split()[0] == "MACs" and shown[6].split()[2] == "100.0"


@pytest.mark.slow
def test_a_budget_and_multiples_go_together(photos: Path, tmp_path: Path) -> None:
    dense = dense_of(tmp_path, "vdsr", features=24)
    _, output = prune(dense, "--target-macs", "0.5", "--round-to", "8", "--val", str(photos))
    widths = checkpoint.read_card(output).widths[:-1]
    assert set(widths) <= {8, 16, 24} and min(widths) < 24


TUNED = ("--data", ".", "--finetune-steps", "4")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ("--config", "a.json", "--rounds", "2"),
            "--rounds 2: --config a.json says itself what is removed; leave one of them out",
        ),
        (("--config", "a.json", "--round-to", "16"), "--round-to 16: --config a.json says itself what is removed"),
        (("--rounds", "2"), "--rounds 2: each ends with fine-tuning, there are 0 steps; give more --finetune-steps"),
        (("--rounds", "5", *TUNED), "--rounds 5: each ends with fine-tuning, there are 4 steps"),
        (("--target-macs", "0.5"), "--target-macs 0.5 measures layers on pictures; name a folder with --data or --val"),
        (("--target-macs", "1.5", "--val", "PHOTOS"), "--target-macs 1.5 is not between 0 and 1"),
        (("--target-macs", "0.0001", "--val", "PHOTOS"), "--target-macs 0.0001: no less than 0."),
        (("--criterion", "taylor"), "--criterion taylor measures filters on pictures; name a folder with --data or --val"),
        (("--criterion", "taylor", "--val", "PHOTOS", "--pruner", "nni"), "--pruner nni: makes the masks of --criterion l1"),
        (("--distill", "output"), "--distill output: a part of fine-tuning; give --finetune-steps and --data"),
        (
            ("--teacher", "t.safetensors", *TUNED),
            "--teacher t.safetensors: nothing is learnt from a teacher; add --distill output",
        ),
        (("--distill-weight", "0.5", *TUNED), "--distill-weight 0.5: nothing is learnt from a teacher"),
        (("--distill-layers", "conv2", *TUNED), "--distill-layers conv2: nothing is learnt from a teacher"),
        (("--distill", "output", "--distill-weight", "2", *TUNED), "--distill-weight 2 is above 1"),
        (("--distill", "output", "--distill-layers", "conv2", *TUNED), "--distill-layers conv2: --distill output compares none"),
        (("--distill", "both", "--distill-layers", "conv1", *TUNED), "--distill-layers conv1: no convolution whose input can be"),
        (("--distill", "both", "--teacher", "t", *TUNED), "--teacher t: its channels are not those of the pruned network"),
        (("--distill", "features", "--compile", *TUNED), "--compile: not with --distill features"),
        (
            ("--distill", "output", "--loss", "1*L1+0.1*GAN", *TUNED, "--patch", "32", "--scale", "2"),
            "--distill output: not with --loss",
        ),
        (("--distill", "output", "--teacher", "EDSR", *TUNED), "--teacher EDSR: its enlargement is 'inside', that of the pruned"),
        (("--distill", "output", "--teacher", "ONE", *TUNED), "--teacher ONE: serves scale 2, fine-tuning wants 2 3 4"),
    ],
)
def test_a_wrong_combination_is_one_line(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], message: str
) -> None:
    dense = dense_of(tmp_path, "vdsr")
    network, card = checkpoint.load(dense)
    one = tmp_path / "one.safetensors"
    checkpoint.save(one, network, card.with_changes(scales=(2,), default_scale=2))
    names = {"PHOTOS": str(photos), "EDSR": str(dense_of(tmp_path, "edsr", "edsr")), "ONE": str(one)}
    code, output = prune(dense, *(names.get(word, word) for word in more))
    assert code == 2
    for word, name in names.items():
        message = message.replace(word, name)
    shown = capsys.readouterr().err
    assert shown.startswith(f"sr-prune: {message}") and shown.count("\n") == 1
    assert not output.exists()


def test_one_way_to_say_how_much(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        prune(dense_of(tmp_path, "vdsr"), "--sparsity", "0.5", "--target-macs", "0.5")
    assert ended.value.code == 2
    assert "--target-macs: not allowed with argument --sparsity" in capsys.readouterr().err


@pytest.mark.parametrize("arch", FAMILIES)
def test_filters_may_be_told_apart_by_the_error(photos: Path, tmp_path: Path, arch: str) -> None:
    dense = dense_of(tmp_path, arch)
    found = []
    for criterion in ("l1", "taylor"):
        assert prune(dense, "--criterion", criterion, "--val", str(photos), "--overwrite")[0] == 0
        found.append(checkpoint.read_card(tmp_path / "small.safetensors"))
    assert found[0].widths == found[1].widths
    assert found[1].recipe["prune.criterion"] == "first-order Taylor expansion of the squared error"
    options = ("--criterion", "taylor", "--rounds", "2", "--target-macs", "0.4", "--distill", "features", "--overwrite")
    assert prune(dense, *tuned(photos, arch), *options)[0] == 0
