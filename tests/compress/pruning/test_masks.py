from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor, nn

from sr_deploy.compress.pruning import masks
from sr_deploy.compress.pruning.allocation import channels_of
from sr_deploy.compress.pruning.masks import filter_masks, masks_from_config, native_masks, nni_installed, nni_masks
from sr_deploy.errors import InputError
from tests.helpers.networks import kept_at, vdsr

WIDTHS = (8, 16, 12, 5, 1)
needs_nni = pytest.mark.skipif(not nni_installed(), reason="NNI is not installed")


class WithLinear(nn.Module):
    """A convolution, a linear layer and an output convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, bias=False)
        self.linear = nn.Linear(4, 4)
        self.last = nn.Conv2d(4, 1, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        features = self.linear(self.first(x).movedim(1, -1)).movedim(-1, 1)
        out: Tensor = self.last(features)
        return out


def assert_equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


@needs_nni
@pytest.mark.parametrize("seed", range(12))
def test_native_masks_equal_nnis_for_random_networks(seed: int) -> None:
    rng = random.Random(seed)
    model = vdsr(*(rng.randint(1, 20) for _ in range(rng.randint(1, 5))), 1, seed=seed)
    kept = {group: rng.randint(1, n) for group, n in channels_of(model).items()}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    native, theirs = (filter_masks(model, kept, backend=backend) for backend in ("native", "nni"))
    assert_equal(native, theirs)
    assert_equal(dict(model.state_dict()), before)


def test_without_nni_the_native_masks_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    model = vdsr(*WIDTHS)
    kept = kept_at(model, 0.5)
    monkeypatch.setattr(masks, "nni_installed", lambda: False)
    assert_equal(filter_masks(model, kept), native_masks(model, kept))
    with pytest.raises(InputError, match=r"NNI is not installed; pip install 'sr-deploy\[compress\]', or use --pruner native"):
        filter_masks(model, kept, backend="nni")
    with pytest.raises(InputError, match=r"a config_list needs NNI, which is not installed; pip install .*, or use --sparsity"):
        masks_from_config(model, [{"sparsity": 0.5, "op_types": ["Conv2d"]}])


@needs_nni
def test_what_nni_refuses_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"config_list .*'nonsense'.*: NNI rejects it \(\w+"):
        nni_masks(vdsr(*WIDTHS), [{"nonsense": 1}])


@needs_nni
def test_parts_of_filters_are_refused() -> None:
    entry = {"op_names": ["conv2"], "target_settings": {"weight": {"sparse_ratio": 0.5, "granularity": [1, 1, 3, 3]}}}
    with pytest.raises(InputError, match="prunes parts of filters, which cannot be removed; leave out granularity"):
        nni_masks(vdsr(*WIDTHS), [entry])


def test_masks_by_hand() -> None:
    model = vdsr(4, 1)
    weight = torch.zeros(4, 1, 3, 3)
    weight[0] = 0.5  # 4.5
    weight[1, 0, 0, 0] = -6.0  # 6: the sign does not count
    weight[2, 0, 1] = 1.0  # 3
    weight[3] = -0.6  # 5.4
    with torch.no_grad():
        model.get_parameter("conv1.weight").copy_(weight)

    def stay(sparsity: float) -> list[bool]:
        found: list[bool] = native_masks(model, kept_at(model, sparsity))["conv1"].tolist()
        return found

    assert stay(0.0) == [True, True, True, True]
    assert stay(0.25) == [True, True, False, True]
    assert stay(0.5) == [False, True, False, True]
    assert stay(0.74) == [False, True, False, True]
    assert stay(0.75) == [False, True, False, False]


def test_sparsity_selects_all_but_the_output() -> None:
    found = native_masks(vdsr(*WIDTHS), kept_at(vdsr(*WIDTHS), 0.5))
    assert {name: int(mask.sum()) for name, mask in found.items()} == {"conv1": 4, "conv2": 8, "conv3": 6, "conv4": 3}


@needs_nni
@pytest.mark.parametrize("key", ["sparsity", "sparse_ratio", "sparsity_per_layer"])
@pytest.mark.parametrize("ratio", [1.0, 2, -0.5, float("nan")])
def test_a_ratio_out_of_range_is_refused_in_a_list(key: str, ratio: float) -> None:
    with pytest.raises(InputError, match=rf"config_list key '{key}' is {ratio}; a number in \[0, 1\) is needed"):
        masks_from_config(vdsr(*WIDTHS), [{key: ratio, "op_names": ["conv1"]}])


@needs_nni
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sparse_ratio": -0.5}, r"config_list key 'sparse_ratio' is -0.5; a number in \[0, 1\) is needed"),
        ({"sparse_threshold": float("inf")}, "config_list key 'sparse_threshold' is inf; a finite number is needed"),
    ],
)
def test_numbers_in_settings_are_checked_too(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        masks_from_config(vdsr(*WIDTHS), [{"op_names": ["conv1"], "target_settings": {"weight": settings}}])


@needs_nni
def test_settings_that_nni_would_ignore_are_refused() -> None:
    entry = {"sparsity": 0.5, "op_names": ["conv2"], "target_settings": {"weight": {"granularity": [4, 8, 3, 3]}}}
    with pytest.raises(InputError, match="target_settings beside 'sparsity' are ignored by NNI; say sparse_ratio instead"):
        masks_from_config(vdsr(*WIDTHS), [entry])


@needs_nni
def test_selecting_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="selects no module of this network; known convolutions: conv1, conv2"):
        masks_from_config(vdsr(*WIDTHS), [{"sparsity": 0.5, "op_types": ["Linear"]}])


@needs_nni
def test_a_linear_layer_is_refused() -> None:
    with pytest.raises(InputError, match="selects linear, a Linear; only convolutions can be pruned, exclude it"):
        masks_from_config(WithLinear(), [{"sparsity": 0.5, "op_names": ["first", "linear"]}])


@needs_nni
def test_the_output_convolution_is_refused() -> None:
    model = WithLinear()
    model.last = nn.Conv2d(4, 4, 3, bias=False)
    with pytest.raises(InputError, match=r'prunes last, which makes the picture; add "exclude_op_names": \["last"\]'):
        masks_from_config(model, [{"sparsity": 0.5, "op_types": ["Conv2d"]}])


@needs_nni
def test_removing_a_whole_layer_is_refused() -> None:
    with pytest.raises(InputError, match="removes all 16 filters of conv2; choose a lower sparsity"):
        masks_from_config(vdsr(*WIDTHS), [{"sparse_threshold": 1e9, "op_names": ["conv2"]}])
