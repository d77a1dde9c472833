from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor, nn

from sr_deploy.compress.pruning.allocation import config_list_for
from sr_deploy.compress.pruning.masks import KNOWN_KEYS, ConfigList, filter_masks, native_masks, nni_installed, nni_masks
from sr_deploy.errors import InputError
from tests.helpers.networks import vdsr

WIDTHS = (8, 16, 12, 5, 1)
needs_nni = pytest.mark.skipif(not nni_installed(), reason="NNI is not installed")

CONFIG_LISTS: dict[str, ConfigList] = {
    "sparsity": [{"sparsity": 0.5, "op_types": ["Conv2d"], "exclude_op_names": ["conv5"]}],
    "sparse_ratio": [{"sparse_ratio": 0.25, "op_types": ["Conv2d"], "exclude_op_names": ["conv5"]}],
    "zero": [{"sparsity": 0.0, "op_names": ["conv2"]}],
    "high": [{"sparsity": 0.9, "op_names": ["conv2", "conv3"]}],
    "odd ratio": [{"sparsity": 0.37, "op_names": ["conv1", "conv2", "conv3", "conv4"]}],
    "exclude_op_names": [{"sparsity": 0.5, "op_types": ["Conv2d"], "exclude_op_names": ["conv1", "conv5"]}],
    "op_names": [{"sparsity": 0.5, "op_names": ["conv2"]}],
    "names and types": [{"sparsity": 0.5, "op_types": ["Conv2d"], "op_names": ["conv1", "conv4"]}],
    "two entries": [{"sparsity": 0.5, "op_names": ["conv1"]}, {"sparsity": 0.25, "op_names": ["conv3", "conv4"]}],
    "one layer twice": [{"sparsity": 0.75, "op_names": ["conv2"]}, {"sparsity": 0.25, "op_names": ["conv2", "conv3"]}],
    "one layer twice, by type": [
        {"sparsity": 0.25, "op_types": ["Conv2d"], "exclude_op_names": ["conv5"]},
        {"sparsity": 0.75, "op_names": ["conv2"]},
    ],
    "the output conv, which has one filter": [{"sparsity": 0.5, "op_types": ["Conv2d"]}],
    "int-like ratio": [{"sparsity": 0.125, "op_names": ["conv1"]}],
}


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
@pytest.mark.parametrize("name", CONFIG_LISTS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_native_masks_equal_nnis(name: str, seed: int) -> None:
    model = vdsr(*WIDTHS, seed=seed)
    assert_equal(native_masks(model, CONFIG_LISTS[name]), nni_masks(model, CONFIG_LISTS[name]))


@needs_nni
@pytest.mark.parametrize("seed", range(12))
def test_native_masks_equal_nnis_for_random_networks_and_lists(seed: int) -> None:
    rng = random.Random(seed)
    depth = rng.randint(2, 6)
    model = vdsr(*(rng.randint(1, 20) for _ in range(depth - 1)), 1, seed=seed)
    names = [f"conv{n}" for n in range(1, depth)]
    entries, key = [], rng.choice(["sparsity", "sparse_ratio"])  # NNI refuses a list that mixes both
    for _ in range(rng.randint(1, 3)):
        ratio = {key: round(rng.uniform(0.0, 0.95), 3)}
        selected = {"op_names": rng.sample(names, rng.randint(1, len(names)))}
        by_type = {"op_types": ["Conv2d"], "exclude_op_names": [f"conv{depth}", *rng.sample(names, rng.randint(0, len(names)))]}
        entries.append({**ratio, **rng.choice([selected, by_type])})
    assert_equal(native_masks(model, entries), nni_masks(model, entries))


@needs_nni
def test_both_ways_leave_the_network_alone() -> None:
    model = vdsr(*WIDTHS)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for backend in ("nni", "native"):
        filter_masks(model, config_list_for(model, 0.5), backend=backend)
    assert_equal(dict(model.state_dict()), before)
    assert list(model.state_dict()) == list(before)


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

    def kept(sparsity: float) -> list[bool]:
        found: list[bool] = native_masks(model, [{"sparsity": sparsity, "op_names": ["conv1"]}])["conv1"].tolist()
        return found

    assert kept(0.0) == [True, True, True, True]
    assert kept(0.25) == [True, True, False, True]
    assert kept(0.5) == [False, True, False, True]
    assert kept(0.74) == [False, True, False, True]
    assert kept(0.75) == [False, True, False, False]


def test_sparsity_selects_all_but_the_output() -> None:
    masks = filter_masks(vdsr(*WIDTHS), config_list_for(vdsr(*WIDTHS), 0.5), backend="native")
    assert {name: int(mask.sum()) for name, mask in masks.items()} == {"conv1": 4, "conv2": 8, "conv3": 6, "conv4": 3}


@pytest.mark.parametrize("sparsity", [1.0, 1.5, -0.1, float("nan")])
def test_sparsity_out_of_range_is_refused(sparsity: float) -> None:
    with pytest.raises(InputError, match=rf"--sparsity {sparsity} is not in \[0, 1\); 0\.5 halves every convolution"):
        config_list_for(vdsr(*WIDTHS), sparsity)


@pytest.mark.parametrize("ratio", [1.0, -0.5, "half", None, float("nan")])
def test_a_ratio_out_of_range_is_refused_in_a_list(ratio: object) -> None:
    with pytest.raises(InputError, match=rf"needs one of sparsity, sparse_ratio in \[0, 1\), has {ratio}"):
        native_masks(vdsr(*WIDTHS), [{"sparsity": ratio, "op_names": ["conv1"]}])


@pytest.mark.parametrize("key", ["granularity", "target_names", "op_names_re", "exclude", "global_group_id", "typo"])
def test_an_unknown_key_is_refused_by_name(key: str) -> None:
    assert key not in KNOWN_KEYS
    with pytest.raises(InputError, match=f"config_list key '{key}' is not known without NNI"):
        native_masks(vdsr(*WIDTHS), [{"sparsity": 0.5, "op_names": ["conv1"], key: 1}])


@pytest.mark.parametrize("key", ["op_names", "op_types", "exclude_op_names"])
def test_a_name_that_is_no_list_is_refused(key: str) -> None:
    with pytest.raises(InputError, match=f"config_list key '{key}' needs a list of names, has 'conv1'"):
        native_masks(vdsr(*WIDTHS), [{"op_types": ["Conv2d"], "sparsity": 0.5, key: "conv1"}])


def test_a_name_that_is_no_module_is_refused() -> None:
    with pytest.raises(InputError, match="op_names 'conv9' is no module of this network; known: conv1, conv2, conv3"):
        native_masks(vdsr(*WIDTHS), [{"sparsity": 0.5, "op_names": ["conv9"]}])


@pytest.mark.parametrize("entry", [{"op_types": ["Linear"]}, {"op_names": []}, {}])
def test_selecting_nothing_is_refused(entry: dict[str, object]) -> None:
    with pytest.raises(InputError, match="selects no module of this network; known convolutions: conv1, conv2"):
        filter_masks(vdsr(*WIDTHS), [{"sparsity": 0.5, **entry}], backend="native")


@pytest.mark.parametrize("backend", ["native", pytest.param("nni", marks=needs_nni)])
def test_a_linear_layer_is_refused(backend: str) -> None:
    with pytest.raises(InputError, match="selects linear, a Linear; only convolutions can be pruned, exclude it"):
        filter_masks(WithLinear(), [{"sparsity": 0.5, "op_names": ["first", "linear"]}], backend=backend)  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", ["native", pytest.param("nni", marks=needs_nni)])
def test_the_output_convolution_is_refused(backend: str) -> None:
    model = WithLinear()
    model.last = nn.Conv2d(4, 4, 3, bias=False)
    with pytest.raises(InputError, match=r'prunes last, which makes the picture; add "exclude_op_names": \["last"\]'):
        filter_masks(model, [{"sparsity": 0.5, "op_types": ["Conv2d"]}], backend=backend)  # type: ignore[arg-type]


@needs_nni
def test_removing_a_whole_layer_is_refused() -> None:
    with pytest.raises(InputError, match="removes all 16 filters of conv2; choose a lower sparsity"):
        filter_masks(vdsr(*WIDTHS), [{"sparse_threshold": 1e9, "op_names": ["conv2"]}], backend="nni")
