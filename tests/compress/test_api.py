from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sr_deploy.compress import PruneOptions, prune
from sr_deploy.compress.command import parser
from sr_deploy.compress.report import Row
from sr_deploy.compress.run import warn_of_loss
from sr_deploy.errors import InputError
from sr_deploy.options import options_from
from sr_deploy.train import Status
from sr_deploy.train.networks.registry import build, card_of
from sr_deploy.train.weights import checkpoint


@pytest.fixture
def dense(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    network = build("plain", (8, 8, 4), {"scale": 2})
    checkpoint.save(tmp_path / "dense.safetensors", network, card_of(network, scales=(2,), default_scale=2))
    return tmp_path / "dense.safetensors"


def test_pruning_returns_what_it_wrote_and_costs_and_prints_nothing(
    dense: Path, photos: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    statuses: list[Status] = []
    output = dense.with_name("small.safetensors")
    options = PruneOptions(
        output=output, data=(photos,), val=photos, finetune_steps=2, batch_size=2, patch=16, device="cpu", pruner="native"
    )
    result = prune(dense, options, report=statuses.append)
    assert result.checkpoint == output and result.card == checkpoint.read_card(output)
    assert [row.stage for row in result.rows] == ["dense", "pruned", "reconstructed", "fine-tuned"]
    assert result.card.widths == (4, 4, 4) and result.rows[-1].weights < result.rows[0].weights
    assert list(result.psnr_db) == [2] and result.shape == (1, 1, 256, 256)
    assert [status.step for status in statuses] == [1, 2]
    assert capfd.readouterr() == ("", "")


def test_two_amounts_are_one_too_many() -> None:
    with pytest.raises(InputError, match=r"--sparsity 0\.5 and --target-macs 0\.25: both say how much is removed"):
        PruneOptions(output=Path("a.safetensors"), sparsity=0.5, target_macs=0.25, val=Path("pictures"))


def test_a_choice_that_is_none_is_named() -> None:
    with pytest.raises(InputError, match="--distill everything: not known; choose among none, output, features, both"):
        PruneOptions(output=Path("a.safetensors"), distill="everything")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="--round-to 7: not known; choose among 8, 16, 32, 64"):
        PruneOptions(output=Path("a.safetensors"), round_to=7)  # type: ignore[arg-type]


@pytest.mark.parametrize(("given", "kinds"), [([], None), (["--degrade"], ()), (["--degrade", "jpeg", "blur"], ("jpeg", "blur"))])
def test_damage_is_the_dense_networks_or_what_is_named(given: list[str], kinds: tuple[str, ...] | None) -> None:
    arguments = parser().parse_args(["a.safetensors", "-o", "b.safetensors", *given])
    assert options_from(PruneOptions, arguments).degrade == kinds


def test_options_stay_as_they_were_made(dense: Path) -> None:
    options = PruneOptions(output=dense.with_name("small.safetensors"), device="cpu", pruner="native", reconstruct=16)
    before = repr(options)
    prune(dense, options)
    assert repr(options) == before


def test_without_pictures_it_is_reconstructed_on_those_that_come_along(dense: Path) -> None:
    options = PruneOptions(output=dense.with_name("small.safetensors"), device="cpu", pruner="native", reconstruct=16)
    card = prune(dense, options).card
    assert card.recipe["prune.reconstruct"] == "16 patches"
    plain = prune(dense, replace(options, output=dense.with_name("plain.safetensors"), reconstruct=0)).checkpoint
    whole = prune(dense, replace(options, output=dense.with_name("whole.safetensors"), sparsity=0.0)).card
    assert "prune.reconstruct" not in whole.recipe  # nothing was removed, so nothing was solved
    one, other = (checkpoint.tensors(path) for path in (options.output, plain))
    assert one.keys() == other.keys() and not any(torch.equal(one[name], other[name]) for name in one if "weight" in name)


def test_a_checkpoint_is_named_by_a_path(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^path='a\.safetensors': is of type str; give a path$"):
        prune("a.safetensors", PruneOptions(output=tmp_path / "b.safetensors"))  # type: ignore[arg-type]


def test_training_that_lost_quality_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    before, after = (Row(stage, 1, 1, {2: 36.0, 4: db}) for stage, db in (("reconstructed", 30.56), ("fine-tuned", 30.16)))
    warn_of_loss(after, before)
    assert not caplog.messages
    warn_of_loss(before, after)
    assert caplog.messages == [
        "fine-tuned: 0.400 dB less at x4 than reconstructed; give more pictures (--data), a lower --lr, or --finetune-steps 0"
    ]
