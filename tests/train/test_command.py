from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from sr_deploy.signals import Stopped, held_signals
from sr_deploy.train.command import main
from sr_deploy.train.loop.status import Status
from sr_deploy.train.networks.registry import convolutions
from sr_deploy.train.reporting import describe
from sr_deploy.train.weights import checkpoint
from tests.helpers.cli import only_line

TINY = ["--width", "16", "--patch", "16", "--batch-size", "2", "--scale", "2", "3", "--shrink", "1", "--device", "cpu"]
TINY += ["--optimizer", "adam", "--lr", "1e-3"]  # 20 narrow layers die at the paper's learning rate


def arguments(photos: Path, output: Path, *more: str, steps: int = 2) -> list[str]:
    return [str(photos), "-o", str(output), *TINY, "--steps", str(steps), *more]


def test_pictures_become_a_checkpoint(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out" / "a.safetensors"
    assert main(arguments(photos, output)) == 0
    network, card = checkpoint.load(output)
    assert (card.arch, card.widths, card.scales, card.default_scale) == ("vdsr", (16,) * 19 + (1,), (2, 3), 2)
    assert card.recipe["train.steps"] == card.recipe["train.done_steps"] == "2"
    assert len(convolutions(network)) == 20
    assert capsys.readouterr().out == f"{output}: written; its training state is a.train.safetensors\n"
    assert sorted(path.name for path in output.parent.iterdir()) == ["a.safetensors", "a.train.safetensors"]


def test_log_and_validation(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"
    output = tmp_path / "a.safetensors"
    assert main(arguments(photos, output, "--log-dir", str(log), "--val", str(photos), steps=20)) == 0
    assert "PSNR x2 " in capsys.readouterr().err
    events = EventAccumulator(str(log)).Reload()
    tags = events.Tags()["scalars"]
    assert sorted(tags) == ["images_per_s", "loss", "lr", "psnr_db/x2", "psnr_db/x3"]
    assert [event.step for event in events.Scalars("psnr_db/x2")] == [20]


def test_equal_commands_give_equal_bytes(photos: Path, tmp_path: Path) -> None:
    outputs = [tmp_path / "a.safetensors", tmp_path / "b" / "c.safetensors"]
    for output in outputs:
        assert main(arguments(photos, output, "--seed", "3")) == 0
    assert outputs[0].read_bytes() == outputs[1].read_bytes()


def test_seed_decides_the_weights(photos: Path, tmp_path: Path) -> None:
    for seed in ("1", "2"):
        assert main(arguments(photos, tmp_path / f"{seed}.safetensors", "--seed", seed)) == 0
    assert (tmp_path / "1.safetensors").read_bytes() != (tmp_path / "2.safetensors").read_bytes()


def test_resume_continues_to_the_new_length(photos: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    assert main(arguments(photos, whole, steps=4)) == 0
    assert main(arguments(photos, parts, steps=2)) == 0
    assert main(arguments(photos, parts, "--resume", steps=4)) == 0
    assert parts.read_bytes() == whole.read_bytes()


def test_resume_with_other_pictures_of_the_same_size_is_refused(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(photos, data)
    output = tmp_path / "a.safetensors"
    assert main(arguments(data, output)) == 0
    path = sorted(data.iterdir())[0]
    with Image.open(path) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
    capsys.readouterr()
    assert main(arguments(data, output, "--resume", steps=4)) == 2
    assert "was trained with pictures " in only_line(capsys, "sr-train")


def test_resume_keeps_the_parent(photos: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    assert main(arguments(photos, first)) == 0
    assert main(arguments(photos, second, "--init-from", str(first))) == 0
    assert main(arguments(photos, second, "--resume", steps=4)) == 0
    assert checkpoint.read_card(second).parent_digest == checkpoint.read_card(first).digest


def test_a_training_state_is_not_lost_unasked(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, state = tmp_path / "a.safetensors", tmp_path / "a.train.safetensors"
    state.write_bytes(b"hours of work")
    assert main(arguments(photos, output)) == 2
    assert "a.train.safetensors: the training state of an earlier run" in only_line(capsys, "sr-train")
    assert state.read_bytes() == b"hours of work" and not output.exists()


def test_a_changed_checkpoint_is_no_start(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = tmp_path / "a.safetensors"
    assert main(arguments(photos, first)) == 0
    content = bytearray(first.read_bytes())
    content[-1] ^= 1
    first.write_bytes(content)
    capsys.readouterr()
    assert main(arguments(photos, tmp_path / "b.safetensors", "--init-from", str(first))) == 2
    assert "a.safetensors: changed after it was made" in only_line(capsys, "sr-train")


@pytest.mark.parametrize("step", ["1e-300", "5e-324"])
def test_a_learning_rate_that_falls_to_zero_is_no_traceback(photos: Path, tmp_path: Path, step: str) -> None:
    more = ["--optimizer", "sgd", "--clip-mode", "value", "--lr-step", step]
    assert main(arguments(photos, tmp_path / "a.safetensors", *more)) == 0


def test_resume_without_a_run_is_refused(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(photos, tmp_path / "a.safetensors", "--resume")) == 2
    assert "there is no run to resume; start without --resume" in only_line(capsys, "sr-train")


def test_init_from_starts_with_those_weights(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    narrow, wide = tmp_path / "narrow.safetensors", tmp_path / "wide.safetensors"
    assert main(arguments(photos, narrow)) == 0
    more = ["--init-from", str(narrow), "--width", "17", "--lr", "1e-9"]
    assert main(arguments(photos, wide, *more, steps=1)) == 0
    assert "conv2.weight: grown from (16, 16, 3, 3) to (17, 17, 3, 3)" in capsys.readouterr().err
    assert checkpoint.read_card(wide).parent_digest == checkpoint.read_card(narrow).digest
    a, b = checkpoint.tensors(narrow), checkpoint.tensors(wide)
    assert torch.allclose(a["conv2.weight"], b["conv2.weight"][:16, :16], atol=1e-6)  # one step at a learning rate of 1e-9


def test_an_existing_checkpoint_is_kept(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "a.safetensors"
    output.write_bytes(b"precious")
    assert main(arguments(photos, output)) == 2
    assert "exists already; add --overwrite to replace it, or choose another name" in only_line(capsys, "sr-train")
    assert output.read_bytes() == b"precious"
    assert main(arguments(photos, output, "--overwrite")) == 0
    assert output.read_bytes() != b"precious"


@pytest.mark.parametrize(("name", "shown"), [("a.pt", r".pt"), ("a", "nothing")])
def test_another_suffix_is_refused(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, shown: str
) -> None:
    assert main(arguments(photos, tmp_path / name)) == 2
    assert f"a checkpoint's name ends in .safetensors, this one in {shown}\n" in only_line(capsys, "sr-train")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_a_device_is_refused(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(photos, tmp_path / "a.safetensors", "--device", "cuda")) == 2
    assert "--device cuda: torch finds no CUDA device here; use --device cpu" in only_line(capsys, "sr-train")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--scale", "1"], r"scales (1,) do not fit; use integers from 2 to 8"),
        (["--shrink", "2"], "down-scaling factors (2.0,) do not fit"),
        (
            ["--preset", "large"],
            "--preset large: not known for vdsr (edsr: baseline, large; plain: m, l, xl; mdsr: baseline, large)",
        ),
        (["--blocks", "4"], "--blocks 4: VDSR has no residual blocks"),
        (["--arch", "edsr", "--preset", "huge"], "--preset huge: not known for edsr"),
        (["--arch", "edsr"], "--scale 2 3: edsr serves one scale; train one for each"),
        (["--arch", "edsr", "--scale", "2", "--patch", "17"], "--patch 17 is no multiple of the scale 2; 96 is usual"),
        (["--arch", "srresnet", "--scale", "2", "--res-scale", "0.1"], "srresnet does not scale its residuals"),
        (["--patch", "65"], "no picture of at least 65x65 pixels"),
        (["--range", "3-2"], "--range 3-2: not a range of positions from 1; 1-800, or 1-800/801-810"),
        (["--range", "1-4"], "--range 1-4: "),
        (["--range", "1-2/3-4"], "--range 3-4: "),
        (["--range", "1-2/3-3", "--val", "here"], "--val here: --range 1-2/3-3 names validation pictures already"),
        (["--lr-dir", "absent"], "absent: not a folder"),
    ],
)
def test_a_wrong_option_is_one_line(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert main(arguments(photos, tmp_path / "a.safetensors", *more)) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "a.safetensors").exists()


def test_an_unknown_network_is_refused(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments(photos, tmp_path / "a.safetensors", "--arch", "srcnn"))
    assert ended.value.code == 2
    (text,) = capsys.readouterr().err.splitlines()
    assert "srcnn" in text and "edsr" in text


@pytest.mark.parametrize(("arch", "scale"), [("edsr", 2), ("edsr", 3), ("srresnet", 4)])
def test_networks_that_enlarge_are_trained_by_their_papers_recipe(photos: Path, tmp_path: Path, arch: str, scale: int) -> None:
    output, more = tmp_path / f"{arch}.safetensors", ["--blocks", "1", "--width", "8", "--batch-size", "2", "--device", "cpu"]
    patch = ["--patch", str(12 * scale)]
    assert main([str(photos), "-o", str(output), "--arch", arch, "--scale", str(scale), "--steps", "2", *more, *patch]) == 0
    network, card = checkpoint.load(output)
    assert (card.arch, card.scales, card.upscale, card.config["scale"]) == (arch, (scale,), "inside", scale)
    assert card.recipe["train.optimizer"] == "adam" and card.recipe["train.lr"] == "0.0001"
    assert card.recipe["train.schedule"] == "halve" and card.recipe["train.lr_half"] == "200000"
    assert card.recipe["train.loss"] == ("l1" if arch == "edsr" else "mse")
    with torch.no_grad():
        assert network(torch.rand(1, 1, 9, 7)).shape == (1, 1, 9 * scale, 7 * scale)
    more += [*patch, "--val", str(photos)]
    assert main([str(photos), "-o", str(output), "--arch", arch, "--scale", str(scale), "--steps", "3", *more, "--resume"]) == 0
    assert checkpoint.read_card(output).recipe["train.done_steps"] == "3"


def test_a_larger_factor_starts_from_a_smaller_one(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--arch", "edsr", "--blocks", "1", "--width", "8", "--batch-size", "2", "--device", "cpu", "--steps", "1"]
    first, second = (str(tmp_path / name) for name in ("x2.safetensors", "x4.safetensors"))
    assert main([str(photos), "-o", first, *common, "--scale", "2", "--patch", "16"]) == 0
    capsys.readouterr()
    options = ["--scale", "4", "--patch", "16", "--init-from", first, "--lr", "1e-9"]
    assert main([str(photos), "-o", second, *common, *options]) == 0
    notes = capsys.readouterr().err
    assert "up.1.weight: not in" in notes and "body.0" not in notes
    a, b = (convolutions(checkpoint.load(Path(name))[0])["body.0.conv1"].weight for name in (first, second))
    assert torch.allclose(a, b, atol=1e-6)


def test_a_missing_folder_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(tmp_path / "none", tmp_path / "a.safetensors")) == 2
    assert f"{tmp_path / 'none'}: not a folder" in only_line(capsys, "sr-train")


def test_a_missing_validation_folder_is_noticed_before_training(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(photos, tmp_path / "a.safetensors", "--val", str(tmp_path / "none"))) == 2
    assert "not a folder" in only_line(capsys, "sr-train")
    assert not (tmp_path / "a.safetensors").exists()


def test_several_folders_are_joined(photos: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8)).save(other / "a.png")
    outputs = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    assert main(arguments(photos, outputs[0], steps=8)) == 0
    assert main([str(other), *arguments(photos, outputs[1], steps=8)]) == 0
    first, second = (checkpoint.tensors(output)["conv1.weight"] for output in outputs)
    assert not torch.equal(first, second)
    assert checkpoint.read_card(outputs[1]).recipe["data.folders"] == "other photos"


def test_card_tells_the_data(photos: Path, tmp_path: Path) -> None:
    assert main(arguments(photos, tmp_path / "a.safetensors", "--scale", "3", "2", "3", "--detail", "0.5")) == 0
    card = checkpoint.read_card(tmp_path / "a.safetensors")
    assert card.scales == (2, 3)
    assert {name: value for name, value in card.recipe.items() if name.startswith("data.")} == {
        "data.folders": "photos",
        "data.scales": "3 2 3",
        "data.patch": "16",
        "data.shrink": "1",
        "data.detail": "0.5",
    }


@pytest.mark.parametrize("arch", ["vdsr", "edsr"])
def test_a_colour_network_is_trained_on_colour(photos: Path, tmp_path: Path, arch: str) -> None:
    output, more = tmp_path / "a.safetensors", ["--blocks", "1"] if arch == "edsr" else []
    options = ["--arch", arch, "--color", "rgb", "--width", "8", "--batch-size", "2", "--device", "cpu", "--steps", "2"]
    assert main([str(photos), "-o", str(output), *options, "--scale", "2", "--patch", "16", *more]) == 0
    network, card = checkpoint.load(output)
    assert (card.color, card.config["colors"]) == ("rgb", 3)
    with torch.no_grad():
        assert network(torch.rand(1, 3, 8, 8)).shape[1] == 3


def test_a_range_divides_a_folder_into_training_and_validation(photos: Path, tmp_path: Path) -> None:
    only, held = tmp_path / "only", tmp_path / "held"
    for folder, names in ((only, ("0.png", "1.png")), (held, ("2.png",))):
        folder.mkdir()
        for name in names:
            shutil.copy(photos / name, folder / name)
    outputs, logs = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"], [tmp_path / "log_a", tmp_path / "log_b"]
    assert main(arguments(photos, outputs[0], "--range", "1-2/3-3", "--log-dir", str(logs[0]))) == 0
    assert main(arguments(only, outputs[1], "--val", str(held), "--log-dir", str(logs[1]))) == 0
    a, b = (checkpoint.tensors(output) for output in outputs)
    assert all(torch.equal(a[name], b[name]) for name in a)
    found = [EventAccumulator(str(log)).Reload().Scalars("psnr_db/x2")[-1].value for log in logs]
    assert found[0] == found[1]
    assert checkpoint.read_card(outputs[0]).recipe["data.range"] == "1-2"


def test_pairs_are_trained_on_as_they_are(photos: Path, tmp_path: Path) -> None:
    lr = tmp_path / "photos_LR" / "X2"
    lr.mkdir(parents=True)
    for path in photos.iterdir():
        with Image.open(path) as image:
            image.resize((32, 32)).save(lr / f"{path.stem}x2.png")
    output = tmp_path / "a.safetensors"
    options = ["--arch", "edsr", "--width", "8", "--blocks", "1", "--patch", "16", "--batch-size", "2", "--steps", "1"]
    command = [str(photos), "-o", str(output), *options, "--scale", "2", "--device", "cpu", "--lr-dir", str(lr.parent)]
    assert main(command) == 0
    assert checkpoint.read_card(output).recipe["data.lr"] == "photos_LR"


def test_a_cache_changes_nothing(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    assert main(arguments(photos, outputs[0])) == 0
    assert main(arguments(photos, outputs[1], "--cache", str(tmp_path / "cache"))) == 0
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    assert main(arguments(photos, outputs[1], "--cache", str(tmp_path / "cache"), "--resume", steps=3)) == 0
    capsys.readouterr()
    assert main(arguments(photos, outputs[1], "--cache", str(photos / "0.png"), "--overwrite")) == 2
    assert "0.png: a file, a folder is needed; choose another name" in only_line(capsys, "sr-train")


def test_status_is_described_in_one_line() -> None:
    status = Status(step=30, fraction=0.25, losses={"loss": 1.23456}, lr=0.1, images_per_s=12.34, seconds_left=90.0)
    assert describe(status) == " 25.0 % step 30 loss 1.235 lr 1.00e-01 12.3 images/s, 1.5 min left"
    validated = Status(30, 0.25, {"loss": 1.23456}, 0.1, 12.34, 90.0, {2: 37.5, 3: 33.25})
    assert describe(validated).endswith("PSNR x2 37.500 x3 33.250 dB")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--momentum", "1.0"), r"--momentum 1\.0 is not in \[0, 1\)"),
        (("--momentum", "nan"), r"--momentum nan is not in \[0, 1\)"),
        (("--weight-decay", "-1"), "--weight-decay -1.0 is not in 0 to 1000"),
        (("--lr", "1e-300"), "--lr 1e-300 is not in 1e-12 to 1000"),
        (("--clip", "1e300"), r"--clip 1e\+300 is not in"),
        (("--batch-size", "1" + "0" * 20), r"--batch-size 10+ is not in 1 to 65536"),
        (("--patch", "10000"), "--patch 10000 is not in 1 to 4096"),
        (("--width", "100000"), "100000 filters in one layer, the most is 4096"),
        (("--seed", str(2**70)), r"--seed \d+ is not in 0 to"),
        (("--shrink", "nan"), r"down-scaling factors \(nan,\) do not fit"),
        (("--detail", "nan"), "detail=nan: not a number of at least 0"),
        (("--detail", "-1"), "detail=-1.0: not a number of at least 0"),
        (("--ema", "1"), r"--ema 1\.0 is not between 0 and 1; 0\.999 is usual"),
        (("--accumulate", "5000"), "--accumulate 5000 is not in 1 to 4096"),
        (("--precision", "fp16"), "--precision fp16: trains on CUDA only, this device is the CPU; use bf16 or fp32"),
    ],
)
def test_a_number_out_of_range_is_one_line(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], message: str
) -> None:
    output = tmp_path / "a.safetensors"
    assert main(arguments(photos, output, *more)) == 2
    assert re.search(message, only_line(capsys, "sr-train"))
    assert not output.exists()


def test_options_of_a_larger_training_reach_the_card(photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "a.safetensors"
    assert main(arguments(photos, output, "--ema", "0.9", "--accumulate", "2", "--precision", "bf16")) == 0
    assert "Mixed Precision" not in capfd.readouterr().err  # lightning's word for what --precision says
    recipe = checkpoint.read_card(output).recipe
    names = ("ema", "accumulate", "precision", "processes", "batch_size")
    assert [recipe[f"train.{name}"] for name in names] == ["0.9", "2", "bf16", "1", "2"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
def test_a_compiled_network_trains_to_a_plain_checkpoint(photos: Path, tmp_path: Path) -> None:
    outputs = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    assert main(arguments(photos, outputs[0])) == 0
    program = (
        "import sys; from sr_deploy.train.command import main; sys.exit(main(sys.argv[1:]))"  # torch warns, pytest would stop
    )
    command = [sys.executable, "-c", program, *arguments(photos, outputs[1], "--compile", "--threads", "1")]
    subprocess.run(command, check=True, env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")})
    eager, compiled = (checkpoint.tensors(output) for output in outputs)
    assert eager.keys() == compiled.keys()
    # Adam's first steps are lr * g / |g|: where a gradient is rounding noise, its sign is too, so two steps of 1e-3 may differ
    assert all(torch.allclose(eager[name], compiled[name], rtol=0.0, atol=4.1e-3) for name in eager)


@pytest.mark.slow
def test_no_compiler_is_one_line(photos: Path, tmp_path: Path) -> None:
    program = "import sys; from sr_deploy.train.command import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, *arguments(photos, tmp_path / "a.safetensors", "--compile")]
    nothing = {"PATH": str(tmp_path), "CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **nothing}, check=False)
    assert done.returncode == 3
    assert re.fullmatch(r"sr-train: --compile: torch\.compile does not work here \(.+\); install a C\+\+ .*\n", done.stderr)
    assert not (tmp_path / "a.safetensors").exists()


@pytest.mark.parametrize("option", ["--warmup", "--workers", "--seed"])
def test_a_negative_count_is_one_line(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments(photos, tmp_path / "a.safetensors", option, "-1"))
    assert f"argument {option}: -1 is not at least 0" in only_line(capsys, "sr-train")


def test_resuming_another_network_or_other_data_is_refused(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "a.safetensors"
    assert main(arguments(photos, output)) == 0
    capsys.readouterr()
    for more, message in (
        (("--width", "8"), "was trained with widths"),
        (("--detail", "0.5"), r"was trained with data\.detail 0, not 0\.5"),
        (("--scale", "2"), r"was trained with data\.scales 2 3, not 2"),
    ):
        assert main(arguments(photos, output, "--resume", *more, steps=4)) == 2
        assert re.search(message, only_line(capsys, "sr-train"))


def test_a_validation_picture_too_small_to_measure_stops_before_training(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    Image.new("L", (9, 9)).save(small / "a.png")
    assert main(arguments(photos, tmp_path / "a.safetensors", "--val", str(small))) == 2
    assert "9x9 pixels is too small to measure at x3" in only_line(capsys, "sr-train")
    assert not (tmp_path / "a.safetensors").exists()


def test_starting_from_something_else_is_one_line(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(photos, tmp_path / "a.safetensors", "--init-from", str(photos / "0.png"))) == 2
    assert "0.png: not a safetensors checkpoint" in only_line(capsys, "sr-train")


def test_a_log_dir_that_is_a_file_is_refused(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(photos, tmp_path / "a.safetensors", "--log-dir", str(photos / "0.png"))) == 2
    assert "0.png: a file, a folder is needed" in only_line(capsys, "sr-train")


@pytest.fixture
def default_signals() -> Iterator[None]:
    """Signals as in a terminal: a shell's background job starts with some of them ignored."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("default_signals")
def test_ctrl_c_waits_for_the_step_and_a_second_one_does_not() -> None:
    with held_signals() as interrupt:
        signal.raise_signal(signal.SIGINT)
        assert interrupt.numbers
        with pytest.raises(KeyboardInterrupt):
            interrupt.obey()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("default_signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_request_to_end_waits_for_the_step_too(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with held_signals() as interrupt:
        signal.raise_signal(number)
        with pytest.raises(Stopped) as caught:
            interrupt.obey()
        assert caught.value.number == number
    assert signal.getsignal(number) == before


def test_an_ignored_hang_up_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with held_signals() as interrupt:
            signal.raise_signal(signal.SIGHUP)
            interrupt.obey()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_changed_training_state_is_refused(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, state = tmp_path / "a.safetensors", tmp_path / "a.train.safetensors"
    assert main(arguments(photos, output)) == 0
    content = bytearray(state.read_bytes())
    content[-1] ^= 1
    state.write_bytes(content)
    capsys.readouterr()
    assert main(arguments(photos, output, "--resume", steps=4)) == 2
    assert "a.train.safetensors: changed after it was made" in only_line(capsys, "sr-train")
