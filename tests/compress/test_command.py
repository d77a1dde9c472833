from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sr_deploy.card import ModelCard
from sr_deploy.compress.command import main
from sr_deploy.compress.options import PruneOptions
from sr_deploy.compress.pruning.masks import nni_installed
from sr_deploy.compress.report import PruneResult, Row
from sr_deploy.compress.tuning import finetune_data, inherit_patch
from sr_deploy.degrade import Upscale
from sr_deploy.train.command import main as train
from sr_deploy.train.networks.registry import build, card_of, weight_count
from sr_deploy.train.weights import checkpoint

needs_nni = pytest.mark.skipif(not nni_installed(), reason="NNI is not installed")
ROOT = Path(__file__).resolve().parents[2]
NATIVE = ("--reconstruct", "0", "--shape", "1", "1", "16", "16", "--pruner", "native", "--device", "cpu")


@pytest.fixture
def dense(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    network = build("vdsr", (8, 8, 1))
    card = card_of(network, scales=(2, 3), default_scale=2).with_changes(recipe={"train.lr": "0.1"})
    checkpoint.save(tmp_path / "dense.safetensors", network, card)
    return tmp_path / "dense.safetensors"


def prune(dense: Path, *more: str | Path, options: tuple[str, ...] = NATIVE) -> tuple[int, Path]:
    output = dense.with_name("small.safetensors")
    return main([str(dense), "-o", str(output), *options, *map(str, more)]), output


def config(dense: Path, value: object) -> Path:
    path = dense.with_name("config.json")
    path.write_text(value if isinstance(value, str) else json.dumps(value), "utf-8")
    return path


def test_half_by_default(dense: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, output = prune(dense)
    assert code == 0
    network, card = checkpoint.load(output)
    _, parent = checkpoint.load(dense)
    assert card.widths == (4, 4, 1)
    assert (card.scales, card.default_scale, card.parent_digest) == ((2, 3), 2, parent.digest)
    assert card.recipe["parent.train.lr"] == "0.1"
    assert card.recipe["prune.criterion"] == "L1 norm of filters"
    assert json.loads(card.recipe["prune.config_list"])[0] == {"sparse_ratio": 0.5, "op_names": ["conv1"]}
    assert weight_count(network) == 9 * (4 + 16 + 4)
    shown = capsys.readouterr()
    heading, _, bicubic, *rows, last = shown.out.splitlines()
    assert heading == "stage    weights  GMAC at 1x1x16x16  PSNR x2  PSNR x3"
    assert bicubic.split()[0] == "bicubic" and len(bicubic.split()) == 3
    assert [row.split()[:3] for row in rows] == [["dense", "720", "0.00"], ["pruned", "216", "0.00"]]
    assert last == f"{output}: written"
    assert "removed filters: largest difference from the masked network" in shown.err


def test_surviving_weights_come_from_the_dense_network(dense: Path) -> None:
    _, output = prune(dense)
    before, after = (checkpoint.tensors(path)["conv1.weight"] for path in (dense, output))
    strongest = before.abs().sum((1, 2, 3)).topk(4).indices.sort().values
    assert torch.equal(after, before[strongest])


def test_a_drop_beyond_the_budget_fails_and_names_the_scale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dense = Path(shutil.copy(ROOT / "train" / "pretrained" / "plain_m_x2.safetensors", tmp_path))
    code, output = prune(dense, "--max-drop", "0.2")
    assert code == 1 and output.is_file()  # for the curious
    message = (
        r"small\.safetensors: PSNR x2 is [\d.]+ dB, [\d.]+ dB below the dense network \([\d.]+ dB\), "
        r"the budget is 0\.2 dB; train longer \(--finetune-steps\)"
    )
    assert re.search(message, capsys.readouterr().err)
    code, _ = prune(dense, "--sparsity", "0", "--max-drop", "0.2", "--overwrite")
    assert code == 0


def test_a_network_that_fell_to_bicubic_fails_without_a_budget(dense: Path) -> None:
    rows = tuple(Row(name, 1, 1, {2: db, 3: 30.0}) for name, db in (("dense", 35.0), ("pruned", 33.0)))
    result = PruneResult(dense, checkpoint.read_card(dense), rows, (1, 1, 16, 16), bicubic_db={2: 33.5, 3: 29.0})
    assert str(result.failure()).startswith(f"{dense}: PSNR x2 is 33.000 dB, not above bicubic (33.500 dB); train longer")
    assert replace(result, bicubic_db={2: 32.0, 3: 31.0}).failure() is None  # at x3 the dense network is not above it either
    assert replace(result, bicubic_db={2: 32.0, 3: 31.0}).failure(2.0) is None
    assert "2.000 dB below the dense network (35.000 dB), the budget is 1.9 dB" in str(result.failure(1.9))


def test_sparsity_is_free(dense: Path) -> None:
    _, output = prune(dense, "--sparsity", "0.25")
    assert checkpoint.read_card(output).widths == (6, 6, 1)


@needs_nni
def test_config_is_taken_from_a_file(dense: Path) -> None:
    entries = [{"sparsity": 0.75, "op_names": ["conv2"]}]
    code, output = prune(dense, "--pruner", "auto", "--config", config(dense, entries))
    assert code == 0
    card = checkpoint.read_card(output)
    assert card.widths == (8, 2, 1)
    assert json.loads(card.recipe["prune.config_list"]) == entries


@needs_nni
def test_both_pruners_write_the_same_file(dense: Path) -> None:
    found = []
    for pruner in ("native", "nni"):
        code, output = prune(dense, "--pruner", pruner, "--overwrite")
        assert code == 0
        found.append(output.read_bytes())
    assert found[0] == found[1]


def test_table_is_written_as_json(dense: Path, photos: Path) -> None:
    code, _ = prune(dense, "--json", dense.with_name("table.json"), "--val", photos)
    assert code == 0
    written = json.loads(dense.with_name("table.json").read_text("utf-8"))
    assert written["shape"] == [1, 1, 16, 16]
    assert [(row["stage"], row["weights"], row["macs"]) for row in written["results"]] == [
        ("dense", 720, 720 * 256),
        ("pruned", 216, 216 * 256),
    ]
    assert all(set(row["psnr_db"]) == {"2", "3"} and 10 < row["psnr_db"]["2"] < 50 for row in written["results"])


def test_fine_tuning_trains_the_smaller_network(dense: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ("--data", photos, "--val", photos, "--finetune-steps", "40", "--patch", "16", "--shrink", "1")
    code, output = prune(dense, *more)
    assert code == 0
    network, card = checkpoint.load(output)
    assert card.widths == (4, 4, 1)
    assert not network.training
    assert card.recipe["train.done_steps"] == "40"
    assert card.parent_digest == checkpoint.read_card(dense).digest
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows[2:6]] == ["bicubic", "dense", "pruned", "fine-tuned"]
    assert float(rows[5][3]) > float(rows[4][3])  # PSNR at x2
    assert sorted(path.name for path in dense.parent.glob("*.safetensors")) == ["dense.safetensors", "small.safetensors"]


def test_fine_tuning_serves_the_dense_networks_scales(dense: Path, photos: Path) -> None:
    code, output = prune(dense, "--data", photos, "--finetune-steps", "1", "--patch", "16", "--scale", "2")
    assert code == 0
    assert checkpoint.read_card(output).scales == (2, 3)


def test_fine_tuning_reads_a_file_of_patches_and_a_cache(dense: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("h5py")
    patches, cache = dense.with_name("train.h5"), dense.with_name("cache")
    assert train([str(photos), "--prepare", str(patches), "--scale", "2", "3", "--patch", "16", "--shrink", "1"]) == 0
    code, output = prune(dense, "--data", patches, "--finetune-steps", "1")
    assert code == 0
    assert checkpoint.read_card(output).recipe["data.folders"] == "train.h5"
    capsys.readouterr()
    assert prune(dense, "--data", patches, "--finetune-steps", "1", "--scale", "2", "--overwrite")[0] == 2
    assert "holds patches of scale 2 3, the network is trained for 2" in capsys.readouterr().err
    options = ("--data", photos, "--finetune-steps", "1", "--patch", "16", "--overwrite")
    plain = prune(dense, *options)[1].read_bytes()
    assert prune(dense, *options, "--cache", cache)[1].read_bytes() == plain
    assert any(cache.iterdir())


@pytest.mark.parametrize(
    ("upscale", "scales", "dense", "told", "patch"),
    [
        ("before", (2, 3), (2, 3), None, 41),
        ("before", (2,), (2, 3), "33", 33),
        ("inside", (3,), (3,), None, 144),
        ("inside", (3,), (3,), "96", 96),
        ("inside", (2, 3), (2, 3), None, 48),
        ("inside", (2, 3), (2, 3), "40", 40),
        ("inside", (3,), (2, 3), "40", 40),  # still the low-resolution patch: a network of several scales is told which
    ],
)
def test_the_patch_of_the_dense_network_is_kept(
    upscale: Upscale, scales: tuple[int, ...], dense: tuple[int, ...], told: str | None, patch: int
) -> None:
    card = ModelCard(arch="", widths=(1,), scales=dense, default_scale=dense[0], upscale=upscale)
    assert inherit_patch(card, scales, dense, told) == patch


def test_fine_tuning_keeps_the_dense_networks_damage(photos: Path) -> None:
    options = PruneOptions(output=Path("a.safetensors"), data=(photos,), finetune_steps=1)
    card = ModelCard(arch="plain", widths=(1,), scales=(2,), default_scale=2, upscale="inside")
    recipe = {"parent.data.degrade": "noise jpeg"}
    damaged = card.with_changes(recipe=recipe)
    assert finetune_data(options, damaged).degrade == ("noise", "jpeg")
    assert finetune_data(options, card).degrade == ()
    assert finetune_data(replace(options, degrade=("jpeg", "blur")), damaged).degrade == ("blur", "jpeg")
    assert finetune_data(replace(options, degrade=()), damaged).degrade == ()


def test_fine_tuning_keeps_the_dense_networks_loss(dense: Path, photos: Path) -> None:
    network, card = checkpoint.load(dense)
    checkpoint.save(dense, network, card.with_changes(recipe={"train.loss": "l1"}))
    more = ("--data", photos, "--finetune-steps", "1", "--patch", "16", "--overwrite")
    _, output = prune(dense, *more)
    assert checkpoint.read_card(output).recipe["train.loss"] == "l1"
    _, output = prune(dense, *more, "--loss", "mse")
    assert checkpoint.read_card(output).recipe["train.loss"] == "mse"


def test_an_existing_checkpoint_is_kept(dense: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dense.with_name("small.safetensors").write_bytes(b"precious")
    code, output = prune(dense)
    assert code == 2
    assert (
        capsys.readouterr().err == f"sr-prune: {output}: exists already; add --overwrite to replace it, or choose another name\n"
    )
    assert output.read_bytes() == b"precious"
    assert prune(dense, "--overwrite")[0] == 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--sparsity", "1.0"), "--sparsity 1.0 is not in [0, 1); 0.5 halves every convolution"),
        (("--finetune-steps", "5"), "--finetune-steps 5 needs pictures; name a folder with --data"),
        (("--momentum", "1.5", "--finetune-steps", "1", "--data", "."), "--momentum 1.5 is not in [0, 1)"),
        (("--shape", "1", "3", "16", "16"), "--shape 1 3 16 16: this network takes 1 channel(s)"),
        (("--steps", "5"), "--steps 5 belongs to sr-train; give --finetune-steps"),
        (("--epochs", "2"), "--epochs 2 belongs to sr-train; give --finetune-steps"),
        (("--shape", "1", "1", "0", "16"), "--shape 1 1 0 16: every side must be 1 to 16384"),
        (("--config", "a.json"), "--pruner native: --config a.json is NNI's, by L1 norm; leave one of them out"),
        (
            ("--pruner", "auto", "--config", "absent.json"),
            "absent.json: cannot be read (No such file or directory); name a JSON file with --config",
        ),
        (("--val", "absent"), "absent: not a folder; name one that holds pictures"),
    ],
)
def test_a_wrong_option_is_one_line(dense: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], message: str) -> None:
    code, output = prune(dense, *more)
    assert code == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"sr-prune: {message}")
    assert shown.count("\n") == 1
    assert not output.exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("nonsense", "config.json: not JSON ("),
        ({}, "config.json: not a config_list; it holds a list like"),
        ([], "config.json: not a config_list"),
        (["conv1"], "config.json: not a config_list"),
        pytest.param([{"nonsense": 1}], "NNI rejects it (", marks=needs_nni),
        pytest.param([{"sparsity": 0.5, "op_types": ["Linear"]}], "selects no module of this network", marks=needs_nni),
        pytest.param(
            [{"sparsity": -0.5, "op_names": ["conv1"]}], "'sparsity' is -0.5; a number in [0, 1) is needed", marks=needs_nni
        ),
    ],
)
def test_a_wrong_config_is_one_line(dense: Path, capsys: pytest.CaptureFixture[str], value: object, message: str) -> None:
    code, output = prune(dense, "--pruner", "auto", "--config", config(dense, value))
    assert code == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.count("\n") == 1
    assert not output.exists()


def test_sparsity_and_config_exclude_each_other(dense: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        prune(dense, "--sparsity", "0.5", "--config", "a.json")
    assert ended.value.code == 2
    assert "--config: not allowed with argument --sparsity" in capsys.readouterr().err


def test_another_kind_of_file_is_refused(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(photos / "0.png"), "-o", str(tmp_path / "a.safetensors")]) == 2
    assert "0.png: not a safetensors checkpoint" in capsys.readouterr().err


def test_a_changed_checkpoint_is_refused(dense: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = bytearray(dense.read_bytes())
    content[-1] ^= 1
    dense.write_bytes(content)
    assert prune(dense)[0] == 2
    assert "dense.safetensors: changed after it was made" in capsys.readouterr().err


@pytest.mark.parametrize(("arch", "scale"), [("edsr", 2), ("edsr", 3), ("srresnet", 4)])
@pytest.mark.parametrize("pruner", ["native", "auto"])
def test_networks_that_enlarge_are_pruned_and_tuned(photos: Path, tmp_path: Path, arch: str, scale: int, pruner: str) -> None:
    torch.manual_seed(0)
    network = build(arch, config={"scale": scale, "blocks": 2, "features": 8})
    card = card_of(network, scales=(scale,), default_scale=scale)
    checkpoint.save(tmp_path / "dense.safetensors", network, card)
    tune = ["--data", str(photos), "--finetune-steps", "2", "--batch-size", "2", "--patch", str(12 * scale), "--shrink", "1"]
    options = ["--shape", "1", "1", "16", "16", "--pruner", pruner, "--device", "cpu", "--val", str(photos)]
    output = tmp_path / "small.safetensors"
    assert main([str(tmp_path / "dense.safetensors"), "-o", str(output), *options, *tune]) == 0
    small, found = checkpoint.load(output)
    assert found.upscale == "inside" and found.config["scale"] == scale and found.config.get("norm", 0) == 0
    assert found.widths[:-1] == tuple(width // 2 for width in card.widths[:-1]) and found.widths[-1] == 1
    with torch.no_grad():
        assert small(torch.rand(1, 1, 8, 8)).shape == (1, 1, 8 * scale, 8 * scale)
