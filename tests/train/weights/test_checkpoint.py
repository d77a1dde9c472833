from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from sr_deploy.card import KEY, seal
from sr_deploy.errors import InputError
from sr_deploy.train.networks.registry import build, card_of, weight_count
from sr_deploy.train.weights import checkpoint

SAVE = (
    "import sys; from pathlib import Path; import torch; from sr_deploy.train.weights import checkpoint\n"
    "from sr_deploy.train.networks.registry import build, card_of\n"
    "torch.manual_seed(5); network = build('vdsr', (4, 4, 1))\n"
    "checkpoint.save(Path(sys.argv[1]), network, card_of(network, scales=(2, 3, 4), default_scale=2))"
)


def save(path: Path, widths: tuple[int, ...] = (4, 4, 1)) -> torch.nn.Module:
    torch.manual_seed(5)
    network = build("vdsr", widths)
    checkpoint.save(path, network, card_of(network, scales=(2, 3, 4), default_scale=2))
    return network


def test_round_trip(tmp_path: Path) -> None:
    network = save(tmp_path / "a.safetensors")
    loaded, card = checkpoint.load(tmp_path / "a.safetensors")
    assert (card.arch, card.widths, card.scales) == ("vdsr", (4, 4, 1), (2, 3, 4))
    assert not loaded.training
    for name, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)


def test_save_returns_the_card_of_the_file(tmp_path: Path) -> None:
    network = build("vdsr", (2, 1))
    card = checkpoint.save(tmp_path / "a.safetensors", network, card_of(network, scales=(2,), default_scale=2))
    assert card == checkpoint.read_card(tmp_path / "a.safetensors")
    assert card.digest != card_of(network, scales=(2,), default_scale=2).digest


def test_weights_are_saved_as_contiguous_float32(tmp_path: Path) -> None:
    network = build("vdsr", (4, 4, 1)).double().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    checkpoint.save(tmp_path / "a.safetensors", network, card_of(network, scales=(2,), default_scale=2))
    for name, value in checkpoint.tensors(tmp_path / "a.safetensors").items():
        assert value.dtype == torch.float32
        assert torch.equal(value, network.state_dict()[name].float())


def test_a_changed_byte_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save(path, (1, 1))
    content = path.read_bytes()
    assert weight_count(checkpoint.load(path)[0]) == 18
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 1
        path.write_bytes(changed)
        with pytest.raises(InputError, match=r"a\.safetensors: "):
            checkpoint.load(path)


@pytest.mark.parametrize("length", [0, 4, 8, 100, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "a.safetensors"
    save(path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(InputError, match=r"a\.safetensors: (not a safetensors checkpoint|changed after it was made)"):
        checkpoint.load(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"cannot be read \(No such file or directory\); name a \.safetensors checkpoint(; trained ones are .*)?$",
    ):
        checkpoint.load(tmp_path / "a.safetensors")


def test_another_kind_of_file_is_refused(pictures: Path) -> None:
    with pytest.raises(InputError, match=r"grass\.png: not a safetensors checkpoint \(.*\); make one with sr-train$"):
        checkpoint.load(pictures / "grass.png")


def test_a_foreign_checkpoint_is_refused(tmp_path: Path) -> None:
    safetensors.torch.save_file({"conv1.weight": torch.zeros(4, 1, 3, 3)}, tmp_path / "a.safetensors")
    with pytest.raises(
        InputError, match=r"1 tensors .conv1.weight, .... of no known network; known: those of this project, pytorch-vdsr, "
    ):
        checkpoint.load(tmp_path / "a.safetensors")


@pytest.mark.parametrize("header", [[], 7, {"__metadata__": None}, {"__metadata__": {KEY: "[]"}}, {"__metadata__": {KEY: 3}}])
def test_a_strange_header_is_refused(tmp_path: Path, header: object) -> None:
    text = json.dumps(header).encode()
    (tmp_path / "a.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(
        InputError, match=r"a\.safetensors: (not a safetensors checkpoint|its model card is damaged|holds no tensors by name)"
    ):
        checkpoint.load(tmp_path / "a.safetensors")


def test_weights_that_do_not_fit_the_card_are_refused(tmp_path: Path) -> None:
    card = card_of(build("vdsr", (4, 4, 1)), scales=(2,), default_scale=2)
    state = build("vdsr", (3, 4, 1)).state_dict()
    content = seal(safetensors.torch.save(dict(state), {KEY: card.to_json()}), source="x")
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=r"weights do not fit its card \(vdsr, widths \(4, 4, 1\)\); train again$"):
        checkpoint.load(tmp_path / "a.safetensors")


def test_equal_inputs_give_equal_bytes_in_another_process_and_folder(tmp_path: Path) -> None:
    save(tmp_path / "a.safetensors")
    other = tmp_path / "elsewhere" / "b.safetensors"
    subprocess.run([sys.executable, "-c", SAVE, str(other)], check=True, cwd=tmp_path)
    assert other.read_bytes() == (tmp_path / "a.safetensors").read_bytes()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_is_named(tmp_path: Path, value: float) -> None:
    network = build("vdsr", (4, 4, 1))
    with torch.no_grad():
        next(network.parameters())[0, 0, 0, 0] = value
    checkpoint.save(tmp_path / "n.safetensors", network, card_of(network, scales=(2,), default_scale=2))
    with pytest.raises(InputError, match=r"n\.safetensors: conv1\.weight holds a weight that is no finite number; .*train again"):
        checkpoint.load(tmp_path / "n.safetensors")
