"""Trained checkpoints by name: found in a checkout, and where there is none a line says where they are."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path

import pytest

from sr_deploy.compress.command import main as prune
from sr_deploy.compress.command import parser as prune_parser
from sr_deploy.errors import InputError
from sr_deploy.export.command import main as export
from sr_deploy.export.command import parser as export_parser
from sr_deploy.gate.command import parser as gate_parser
from sr_deploy.gate.models import open_model, open_reference
from sr_deploy.train.command import main as train
from sr_deploy.train.command import parser as train_parser
from sr_deploy.train.weights import pretrained

ELSEWHERE = "trained ones are in train/pretrained of the repository, not in the installed package"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in an installed package, which has no checkpoint."""
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path / "nowhere")


def test_a_name_is_a_checkpoint_of_the_checkout(root: Path) -> None:
    assert pretrained.checkpoint_path("vdsr_pruned") == root / "train" / "pretrained" / "vdsr_pruned.safetensors"
    assert pretrained.checkpoint_path("plain_l_x2").is_file()


def test_a_file_of_that_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vdsr").touch()
    assert pretrained.checkpoint_path("vdsr") == Path("vdsr")


@pytest.mark.parametrize("text", ["vdsr.safetensors", "./vdsr", "build/vdsr", "vsdr", "", "a\0b", "x" * 300])
def test_what_is_no_name_stays_a_path(text: str) -> None:
    assert pretrained.checkpoint_path(text) == Path(text)


def test_sr_export_takes_a_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(["plain_m_x2", "-o", str(tmp_path), "--precision", "fp32", "--shape", "1", "1", "32", "32"]) == 0
    assert (tmp_path / "plain_m_x2_fp32.onnx").is_file()


@pytest.mark.parametrize("command", [export, prune])
def test_a_name_that_is_none_is_answered_with_those_at_hand(
    command: Callable[[list[str]], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["vsdr", "-o", str(tmp_path / "new.safetensors")]) == 2
    line = capsys.readouterr().err
    assert "vsdr: cannot be read (No such file or directory); name a .safetensors checkpoint; trained ones are edsr, " in line
    assert line.count("\n") == 1


@pytest.mark.usefixtures("installed")
def test_an_installed_package_says_where_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(["vdsr", "-o", str(tmp_path)]) == 2
    assert capsys.readouterr().err.endswith(f"name a .safetensors checkpoint; {ELSEWHERE}\n")
    with pytest.raises(InputError, match=f"^srgan: no such file, and no engine is called so .*; {ELSEWHERE}$"):
        open_model("srgan")


@pytest.mark.parametrize(
    ("parser", "before", "option"),
    [
        (export_parser, ["-o", "x"], "checkpoint"),
        (prune_parser, ["-o", "x"], "checkpoint"),
        (prune_parser, ["some.safetensors", "-o", "x", "--teacher"], "teacher"),
        (train_parser, ["photos", "-o", "x", "--init-from"], "init_from"),
        (gate_parser, ["engine.onnx", "--data", "photos", "--reference"], "reference"),
    ],
)
def test_every_command_takes_a_name_from_any_folder(
    parser: Callable[[], ArgumentParser],
    before: list[str],
    option: str,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    found = vars(parser().parse_args([*before, "vdsr_pruned"]))[option]
    assert found == root / "train" / "pretrained" / "vdsr_pruned.safetensors"


@pytest.mark.parametrize("name", ["vsdr", "vsdr.safetensors", "some/vsdr"])
def test_a_reference_that_is_none_is_answered_likewise(name: str) -> None:
    with pytest.raises(InputError, match=f"^{name}: no such file.*; name a checkpoint") as caught:
        open_reference(Path(name), (1, 1, 32, 32))
    assert ("trained ones are edsr, " in str(caught.value)) == (name != "vsdr.safetensors")


def test_sr_train_answers_likewise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = Path(__file__).resolve().parents[2] / "pictures"
    assert train([str(photos), "-o", str(tmp_path / "x.safetensors"), "--arch", "plain", "--init-from", "vsdr"]) == 2
    assert "vsdr: cannot be read (No such file or directory); name a .safetensors checkpoint; trained ones are edsr, " in (
        capsys.readouterr().err
    )


def test_sr_eval_takes_a_name_that_is_no_engines() -> None:
    model = open_model("srgan")
    assert model.card is not None and (model.card.arch, model.card.precision) == ("srresnet", "fp32")
    engine = open_model("vdsr_pruned_qat")  # a checkpoint is called so too
    assert engine.card is not None and engine.card.precision == "int8"
