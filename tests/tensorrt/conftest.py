"""Graphs, and a machine with each release of TensorRT, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx")

import onnx

from sr_deploy.card import ModelCard
from sr_deploy.export.graphs.half import half_precision
from sr_deploy.export.graphs.quantize import quantize
from sr_deploy.export.graphs.reading import serialize
from sr_deploy.export.plans.command import NAMED, parser
from sr_deploy.export.plans.options import BuildOptions
from sr_deploy.export.plans.run import build
from sr_deploy.notes import printed_notes
from sr_deploy.options import options_from
from sr_deploy.runtime.backends.cuda import Cuda
from sr_deploy.runtime.backends.onnx_file import read_card
from sr_deploy.runtime.backends.tensorrt_engine import TensorRTEngine, load_plan
from tests.runtime import tiny_onnx as tiny
from tests.tensorrt.stand_in import RELEASES, FakeCudart, Scenario, tensorrt_of

SHAPE = (1, 1, 48, 48)
DEPTH = 4
KEPT = {"conv1", f"conv{DEPTH}"}


@dataclass
class Machine:
    """A machine with one GPU and one release of TensorRT, both stand-ins."""

    release: str
    scenario: Scenario = field(default_factory=Scenario)
    cudart: FakeCudart = field(default_factory=FakeCudart)

    def __post_init__(self) -> None:
        self.trt = tensorrt_of(self.release, self.cudart, self.scenario)

    @property
    def strongly_typed(self) -> bool:
        """Whether the release builds strongly typed networks only."""
        return int(self.release.split(".")[0]) >= 10

    @property
    def cuda(self) -> Cuda:
        """CUDA's run-time on this machine."""
        return Cuda(self.cudart)

    def build(self, *arguments: object) -> int:
        """Run ``sr-build``; no timing cache unless one is named."""
        cache = () if "--timing-cache" in arguments else ("--no-timing-cache",)
        given = parser().parse_args([str(a) for a in (*arguments, *cache)])
        with printed_notes("sr-build"):
            build(given.graphs, options_from(BuildOptions, given, NAMED), trt=self.trt, cuda=self.cuda)
        return 0

    def load(self, plan: Path, **options: Any) -> TensorRTEngine:
        """Load a plan."""
        return load_plan(plan, trt=self.trt, cuda=self.cuda, **options)


@pytest.fixture(params=RELEASES)
def machine(request: pytest.FixtureRequest) -> Machine:
    """Return a machine with each release."""
    return Machine(request.param)


@pytest.fixture
def graph(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that writes the graph of a precision: a network that sharpens, 48x48 tiles, halo 4."""

    def write(precision: str) -> Path:
        path = tiny.write(tmp_path / "sharp_fp32.onnx", tiny.sharpening_weights(DEPTH), SHAPE)
        if precision == "fp32":
            return path
        card, model = read_card(path), stripped(path)
        names = list(card.layers)
        if precision == "fp16":
            changed = half_precision(model)
            layers = dict.fromkeys(names, "fp16")
        else:
            changed = quantize(model, {"conv1": 1.0, "conv2": 1.0, "conv3": 1.0, "conv4": 1.0}, keep=KEPT)
            layers = {name: "fp32" if name in KEPT else "int8" for name in names}
        return put(tmp_path / f"sharp_{precision}.onnx", changed, card.with_changes(precision=precision, layers=layers))

    return write


def put(path: Path, model: onnx.ModelProto, card: ModelCard) -> Path:
    """Write a sealed graph."""
    path.write_bytes(serialize(model, card, source=path.name))
    return path


def stripped(path: Path) -> onnx.ModelProto:
    """Return a graph without its card."""
    model = onnx.load(path)
    del model.metadata_props[:]
    return model
