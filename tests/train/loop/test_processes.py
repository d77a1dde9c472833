"""Several processes on the CPU, meeting by gloo: real ones, so that each test takes the seconds that torch takes to import."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.fabric import Fabric
from lightning.fabric.strategies.ddp import DDPStrategy

from sr_deploy.errors import InputError, MachineError
from sr_deploy.train.command import main
from sr_deploy.train.data.batches import DataConfig, PatchSource
from sr_deploy.train.loop.devices import Neighbours, Place
from sr_deploy.train.loop.handover import forget, hand_over, receive
from sr_deploy.train.loop.loop import Run, train
from sr_deploy.train.loop.recipe import Recipe
from sr_deploy.train.loop.status import Status
from sr_deploy.train.networks.registry import build, card_of
from sr_deploy.train.weights import checkpoint
from tests.helpers.networks import vdsr

TINY = Recipe(steps=4, batch_size=8, clip=1e-3)
pytestmark = pytest.mark.slow


def run_of(data: PatchSource, recipe: Recipe, output: Path, losses: list[float], devices: int = 1) -> Run:
    def report(status: Status) -> None:
        losses.append(status.losses["loss"])

    card = card_of(vdsr(8, 8, 1), scales=(2,), default_scale=2)
    return Run(recipe=recipe, data=data, card=card, output=output, report=report, device="cpu", devices=devices, workers=0)


def assert_close(one: Run, other: Run) -> None:
    a, b = (checkpoint.tensors(run.output) for run in (one, other))
    assert a.keys() == b.keys()
    # The same sums of float32, added up in another order: a few units of the last place (6e-8) of weights below 1.
    assert all(torch.allclose(a[name], b[name], rtol=0.0, atol=1e-6) for name in a)


@pytest.mark.slow
def test_two_processes_equal_one_with_the_doubled_batch(data: PatchSource, tmp_path: Path) -> None:
    single: list[float] = []
    double: list[float] = []
    one = run_of(data, TINY, tmp_path / "one.safetensors", single)
    two = run_of(data, dataclasses.replace(TINY, batch_size=4), tmp_path / "two.safetensors", double, devices=2)
    train(one, vdsr(8, 8, 1))
    trained = train(two, vdsr(8, 8, 1))
    assert double == pytest.approx(single, rel=1e-6)  # float32 sums in another order
    assert len(double) == 4
    assert_close(one, two)
    stored = checkpoint.tensors(two.output)
    assert all(torch.equal(value, stored[name]) for name, value in trained.state_dict().items())
    assert checkpoint.read_card(two.output).recipe["train.processes"] == "2"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cache", "hdf5"])
def test_pictures_on_disk_reach_every_process(kind: str, photos: Path, tmp_path: Path) -> None:
    size = ["--patch", "16", "--scale", "2", "--shrink", "1", "--threads", "1"]
    source, options = [str(photos)], ["--cache", str(tmp_path / "cache")]
    if kind == "hdf5":
        pytest.importorskip("h5py")
        assert main([*source, "--prepare", str(tmp_path / "p.h5"), *size]) == 0
        source, options, size = [str(tmp_path / "p.h5")], [], ["--scale", "2", "--threads", "1"]
    run = [*source, "--steps", "2", "--width", "8", *size, *options]
    assert main([*run, "-o", str(tmp_path / "one.safetensors"), "--batch-size", "8"]) == 0
    assert main([*run, "-o", str(tmp_path / "two.safetensors"), "--batch-size", "4", "--devices", "2"]) == 0
    one, two = (checkpoint.tensors(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    assert all(torch.allclose(one[name], two[name], rtol=0.0, atol=1e-6) for name in one)  # as in assert_close


@pytest.mark.slow
def test_a_run_goes_on_with_more_processes_of_smaller_batches(data: PatchSource, tmp_path: Path) -> None:
    recipe = dataclasses.replace(TINY, clip_mode="norm", clip=0.05)  # a norm of the averaged gradients
    whole = run_of(data, recipe, tmp_path / "whole.safetensors", [])
    train(whole, vdsr(8, 8, 1))
    short = run_of(data, dataclasses.replace(recipe, steps=2), tmp_path / "parts.safetensors", [])
    train(short, vdsr(8, 8, 1))
    shared = dataclasses.replace(recipe, batch_size=2, accumulate=2)
    train(run_of(data, shared, short.output, [], devices=2), vdsr(8, 8, 1), resume=True)
    assert_close(whole, short)


@pytest.mark.slow
def test_more_processes_with_a_larger_batch_in_all_do_not_go_on(data: PatchSource, tmp_path: Path) -> None:
    train(run_of(data, TINY, tmp_path / "a.safetensors", []), vdsr(8, 8, 1))
    with pytest.raises(InputError, match="was trained with batch_size 8, not 16; give the same options to resume"):
        train(run_of(data, TINY, tmp_path / "a.safetensors", [], devices=2), vdsr(8, 8, 1), resume=True)


@pytest.mark.slow
def test_a_loss_that_is_no_number_in_one_process_ends_both(data: PatchSource, tmp_path: Path) -> None:
    model = vdsr(8, 8, 1)
    run = run_of(data, TINY, tmp_path / "a.safetensors", [], devices=2)

    def poison(status: Status) -> None:
        if status.step == 2:
            with torch.no_grad():
                next(model.parameters()).fill_(float("nan"))  # here, not in process 1

    run.report, run.save_minutes = poison, 1e-9
    with pytest.raises(MachineError, match=r"the loss became nan at step 2; a\.safetensors is kept as of step 2; start again"):
        train(run, model)


@pytest.mark.slow
def test_batch_normalisation_trains_in_two_processes_with_micro_batches(data: PatchSource, photos: Path, tmp_path: Path) -> None:
    model = build("srresnet", config={"blocks": 1, "features": 8, "scale": 2})
    inside = PatchSource(DataConfig((photos,), (2,), 16, (1.0,), upscale="inside"))
    recipe = Recipe(steps=2, batch_size=2, optimizer="adam", lr=1e-3, clip_mode="none", accumulate=2)
    run = dataclasses.replace(run_of(data, recipe, tmp_path / "a.safetensors", []), data=inside, devices=2)
    run.card = card_of(model, scales=(2,), default_scale=2)
    train(run, model)
    assert all(bool(value.isfinite().all()) for value in checkpoint.tensors(run.output).values())


@pytest.mark.parametrize("rank", [0, 1])
def test_ranks_are_those_of_the_run_whatever_a_cluster_says(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NODE_RANK", "GROUP_RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, "1")
    strategy = DDPStrategy(cluster_environment=Neighbours(Place(rank, 2)))
    fabric = Fabric(accelerator="cpu", devices=2, strategy=strategy)
    assert (fabric.global_rank, fabric.local_rank, fabric.world_size) == (rank, rank, 2)


def test_arrays_are_handed_over_as_one_shared_copy(tmp_path: Path) -> None:
    large = np.arange(10_000.0)
    hand_over({"large": large, "empty": np.zeros(0, np.uint8), "small": 3}, tmp_path)
    found = receive(tmp_path)
    forget(tmp_path)
    assert isinstance(found, dict) and found["small"] == 3
    assert np.array_equal(found["large"], large) and not found["large"].flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        found["large"][0] = 1.0
    assert list(tmp_path.iterdir()) == []


def children(process: int) -> list[int]:
    """Return the processes that ``process`` started, those that only keep its books left out."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            status, command = (entry / "stat").read_text().rpartition(")")[2].split(), (entry / "cmdline").read_text()
        except OSError:  # it has just ended
            continue
        if int(status[1]) == process and "spawn_main" in command:
            found.append(int(entry.name))
    return found


def running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("who", "number", "code", "said"),
    [
        ("all", signal.SIGINT, 130, "sr-train: interrupted\n"),  # Ctrl-C in a terminal reaches the whole group
        ("first", signal.SIGTERM, 143, "sr-train: terminated\n"),
        ("second", signal.SIGKILL, 3, "sr-train: process 1 of 2 was ended by signal 9; what was saved before is kept"),
        ("first", signal.SIGKILL, -9, ""),
    ],
)
def test_all_processes_end_with_one_message(
    photos: Path, tmp_path: Path, who: str, number: signal.Signals, code: int, said: str
) -> None:
    output, state = tmp_path / "a.safetensors", tmp_path / "a.train.safetensors"
    options = ["--width", "4", "--patch", "16", "--batch-size", "2", "--scale", "2", "--shrink", "1", "--device", "cpu"]
    options += ["--devices", "2", "--threads", "1", "--steps", "1000000", "--save-minutes", "0.0005", "--workers", "0"]
    # The shell of a background job ignores SIGINT, and what it starts inherits that.
    program = f"import signal; signal.signal({signal.SIGINT:d}, signal.default_int_handler)\n"
    program += "import sys; from sr_deploy.train.command import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, str(photos), "-o", str(output), *options]
    surroundings = {**os.environ, "TMPDIR": str(tmp_path)}  # a run that is killed leaves the file where its processes met
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True, env=surroundings) as process:
        wait_for(state.exists, 120.0)
        (second,) = children(process.pid)
        if who == "all":
            os.killpg(process.pid, number)
        else:
            os.kill(process.pid if who == "first" else second, number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == code
    messages = "".join(line for line in err.splitlines(keepends=True) if " % step " not in line)  # progress, where it takes long
    assert messages.startswith(said) and messages.count("\n") == (1 if said else 0)
    wait_for(lambda: not running(second), 20.0)
    checkpoint.load(output)  # the last good one
