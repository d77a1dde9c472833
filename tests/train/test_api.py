from __future__ import annotations

from pathlib import Path

import pytest

from sr_deploy.errors import InputError, MachineError
from sr_deploy.progress import Step
from sr_deploy.train import PrepareOptions, Status, TrainOptions, prepare, train
from sr_deploy.train.command import parser
from sr_deploy.train.options import ADAM, ARCHS, PAPERS
from sr_deploy.train.weights import checkpoint


def options(photos: Path, output: Path, **more: object) -> TrainOptions:
    given = {"arch": "plain", "width": 4, "blocks": 1, "patch": 16, "batch_size": 2, "steps": 2, "device": "cpu", **more}
    return TrainOptions(data=(photos,), output=output, **given)  # type: ignore[arg-type]


def test_training_returns_what_it_wrote_and_reached_and_prints_nothing(
    photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    statuses: list[Status] = []
    steps: list[Step] = []
    result = train(options(photos, tmp_path / "a.safetensors", val=photos), report=statuses.append, progress=steps.append)
    assert (result.checkpoint, result.state) == (tmp_path / "a.safetensors", tmp_path / "a.train.safetensors")
    assert result.checkpoint.exists() and result.state.exists()
    assert result.card == checkpoint.read_card(result.checkpoint) and result.card.arch == "plain"
    assert list(result.psnr_db) == [2] and result.history[-1].psnr_db == result.psnr_db
    assert [status.step for status in statuses] == [1, 2, 2]  # the last one after the validation
    assert (steps[-1].done, steps[-1].total) == (3, 3)
    assert capfd.readouterr() == ("", "")


def test_patches_are_prepared_from_python(photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("h5py")
    result = prepare(PrepareOptions(data=(photos,), output=tmp_path / "a.h5", scale=(2,), patch=32, shrink=(1.0,)))
    assert (result.path, result.patches, result.side, result.pictures) == (tmp_path / "a.h5", 3 * 4, 32, 3)
    assert capfd.readouterr() == ("", "")


def test_what_is_not_given_is_the_papers(tmp_path: Path) -> None:
    output = tmp_path / "a.safetensors"
    assert TrainOptions(output=output).settings == PAPERS["vdsr"]
    assert TrainOptions(output=output, arch="edsr", lr=1e-3).settings.lr == 1e-3
    assert TrainOptions(output=output, arch="edsr").settings.lr == ADAM.lr
    assert TrainOptions(output=output, arch="plain", expand=0).settings.expand == 0
    assert TrainOptions(output=output, arch="plain").settings.expand == 4


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"arch": "unet"}, "--arch unet: not known"),
        ({"schedule": "linear"}, "--schedule linear: not known; choose among step, halve, drop, cosine"),
        ({"degrade": ("jpeg", "rain")}, "--degrade rain: not known; choose among blur, noise, jpeg"),
        ({"devices": 0}, "devices=0: not a number above 0"),
        ({"threads": 1000}, "threads=1000: not within 1 to 256"),
        ({"arch": "edsr", "scale": (2, 3)}, "--scale 2 3: edsr serves one scale"),
        ({"preset": "xxl"}, "--preset xxl: not known for plain"),
        ({"resume": True, "init_from": Path("b")}, "--init-from b: a resumed run has its weights already"),
    ],
)
def test_options_are_checked_when_they_are_made(tmp_path: Path, more: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        options(tmp_path, tmp_path / "a.safetensors", **more)


def test_the_command_knows_the_defaults_of_the_options() -> None:
    arguments = vars(parser().parse_args(["photos", "-o", "a.safetensors"]))
    assert {name: arguments[name] for name in ("device", "devices", "momentum", "lr_half", "save_minutes", "workers")} == {
        **{"device": "auto", "devices": 1, "momentum": 0.9, "lr_half": 200_000, "save_minutes": 5.0, "workers": 1},
    }
    assert set(PAPERS) == set(ARCHS)


def test_a_folder_that_may_not_be_written_is_the_machines_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *args: False)
    with pytest.raises(MachineError, match="is no folder that may be written; choose another place, or check its permissions"):
        train(TrainOptions(data=(tmp_path,), output=tmp_path / "a.safetensors"))
