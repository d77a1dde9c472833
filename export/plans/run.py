"""The build of plans, which appear only when they compute what their graph computes."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from sr_deploy.calib_data import folder
from sr_deploy.card import ModelCard
from sr_deploy.errors import InputError, SrDeployError
from sr_deploy.export.calibration.pictures import CalibrationSet
from sr_deploy.export.photographs import Cut, Photographs
from sr_deploy.export.plans.builder import Build, build_plan, check_options
from sr_deploy.export.plans.calibration import check_has_calibrators
from sr_deploy.export.plans.options import BuildOptions
from sr_deploy.export.plans.outcome import check_output
from sr_deploy.files import digest_bytes, read_bytes, replacing
from sr_deploy.notes import LINES
from sr_deploy.options import check_type
from sr_deploy.progress import OnStep, progress_to
from sr_deploy.runtime.backends.cuda import Cuda
from sr_deploy.runtime.backends.engine import Tiles
from sr_deploy.runtime.backends.onnx_engine import OnnxEngine
from sr_deploy.runtime.backends.onnx_file import read_card
from sr_deploy.runtime.backends.plan_file import PlanCard, PlanIdentity, card_path, plan_card_to_json, read_plan_card
from sr_deploy.runtime.backends.tensorrt_engine import TensorRTEngine
from sr_deploy.runtime.backends.tensorrt_library import PlanOptions, tensorrt_module

NATIVE_AGREEMENT_DB = 25.0  # TensorRT's own calibration is for comparing; only a broken plan is rejected
CHECK_TILES, NATIVE_TILES = 4, 48


@dataclass(frozen=True)
class Plan:
    """The plan of one graph."""

    graph: Path
    path: Path
    seconds: float | None  # that the build took; None: it was up to date
    agreement_db: float | None  # with its graph on photographs; None: it was up to date


@dataclass(frozen=True)
class BuildResult:
    """What a build made."""

    plans: tuple[Plan, ...]  # in the order of the graphs


def build(
    graphs: Sequence[Path],
    options: BuildOptions = BuildOptions(),  # noqa: B008 (frozen)
    *,
    progress: OnStep | None = None,
    trt: Any = None,
    cuda: Cuda | None = None,
) -> BuildResult:
    """Build a plan of every graph that has no equal one yet; ``progress`` is called with every step.

    ``trt`` and ``cuda`` are the bindings to use; by default those that are installed.

    Raises:
        InputError: a graph is missing or damaged, or an option does not fit this TensorRT.
        MachineError: TensorRT, cuda-python or a GPU is missing.
        EngineError: TensorRT found no way to build it.
        CheckError: the plan computes something else than its graph; it was not written.
    """
    check_type("graphs", graphs, tuple[Path, ...], "paths")
    cards = {graph: read_graph_card(graph) for graph in graphs}
    trt = tensorrt_module() if trt is None else trt
    cuda = Cuda() if cuda is None else cuda
    check_options(trt, options)
    with progress_to(progress):
        cache = None if options.timing_cache is None else timing_cache_file(options.timing_cache, trt, cuda)
        builds: dict[Path, Build] = {}
        for graph, card in cards.items():
            log, native = plan_path(graph, options).with_suffix(".plan.log"), native_tiles(options, graph, card, trt)
            builds[graph] = Build(trt, cuda, card, options, log, native, cache)
        check_apart(cards, options)
        return BuildResult(tuple(plan_of(graph, one) for graph, one in builds.items()))


def plan_of(graph: Path, build: Build) -> Plan:
    """Return the plan of a graph: the one that is there, or a new one."""
    path, identity = plan_path(graph, build.options), identity_of(graph, build)
    if not build.options.force and is_built(path, identity):
        LINES.info(f"{path}: up to date; --force builds it again")
        return Plan(graph, path, None, None)
    LINES.info(f"{path}: building with TensorRT {identity.tensorrt} for {identity.gpu}, which takes a while")
    return build_one(graph, path, identity, build)


def check_apart(graphs: Mapping[Path, ModelCard], options: BuildOptions) -> None:
    """Check that no two graphs would become one plan.

    Raises:
        InputError: two would.
    """
    taken: dict[str, Path] = {}
    for graph in graphs:
        plan = plan_path(graph, options)
        other = taken.setdefault(os.path.realpath(plan), graph)
        if other != graph:
            raise InputError(f"{plan}: would be built from {other} and from {graph}; name separate folders with -o")


def read_graph_card(graph: Path) -> ModelCard:
    """Return the card of a graph.

    Raises:
        InputError: not a graph of this project.
    """
    if graph.suffix.lower() != ".onnx":
        raise InputError(f"{graph}: not a graph ({graph.suffix or 'no suffix'}); name an .onnx made by sr-export")
    card = read_card(graph)
    if card.input_shape is None or card.output_shape is None:
        raise InputError(f"{graph}: its card names no shapes; export it again with sr-export")
    return card


def build_one(graph: Path, plan: Path, identity: PlanIdentity, build: Build) -> Plan:
    """Build one plan, load it again, compare it with ONNX Runtime, and write it with its card."""
    with suppress(FileNotFoundError):
        build.log.unlink()
    plan.parent.mkdir(parents=True, exist_ok=True)
    model, began = onnx.load_from_string(read_bytes(graph, advice="make it with sr-export")), time.perf_counter()
    content = build_plan(build, model)
    seconds = time.perf_counter() - began
    agreement = verify(content, graph, plan, build)
    described = PlanCard(
        card=card_of_plan(build.card, build.options),
        identity=identity,
        plan_digest=digest_bytes(content),
        build_seconds=round(seconds, 3),
        graph=os.path.relpath(graph, plan.parent),
    )
    files = {card_path(plan): plan_card_to_json(described).encode(), plan: content}
    if build.calibration:
        files[plan.with_name(f"{plan.name}.calibration")] = build.calibration
    # All are whole on the disk before any is replaced; a plan beside another plan's card would be rejected when loaded.
    with ExitStack() as stack:
        for path, values in files.items():
            stack.enter_context(replacing(path)).write_bytes(values)
    LINES.info(f"{plan}: built in {seconds:.0f} s, agrees with ONNX Runtime by {agreement:.1f} dB on a photograph")
    return Plan(graph, plan, seconds, agreement)


def verify(content: bytes, graph: Path, plan: Path, build: Build) -> float:
    """Return the agreement in dB of a plan with its graph on calibration tiles, the worst over batch sizes and lanes.

    Raises:
        CheckError: it computes something else.
    """
    card = build.card
    some: Tiles = np.concatenate(list(tiles_for(card, folder("calibrate"), CHECK_TILES)))
    with closing(OnnxEngine(graph, provider="cpu")) as reference:
        expected = reference.run(some)
    options = PlanOptions(build.trt, build.cuda, str(plan), host_code=build.options.version_compatible)
    native_limit = None if build.native is None else NATIVE_AGREEMENT_DB
    found = []
    with closing(TensorRTEngine(content, card, build.options.batches, options)) as engine:
        for batch in build.options.batches:
            chosen = np.arange(2 * batch) % len(some)  # two batches: one on each lane
            output = engine.run(some[chosen])
            found.append(check_output(str(plan), card, output, expected[chosen], native_limit=native_limit))
    return min(found)


def tiles_for(card: ModelCard, photographs: Path, limit: int) -> CalibrationSet:
    """Return single tiles of photographs, at the scale and of the shape of a graph with ``card``."""
    assert card.input_shape is not None
    cut = Cut((card.default_scale,), (1, *card.input_shape[1:]), limit, card.upscale)
    return CalibrationSet(Photographs(photographs, cut.color), cut)


def native_tiles(options: BuildOptions, graph: Path, card: ModelCard, trt: Any) -> CalibrationSet | None:
    """Return the pictures for TensorRT's own calibration of a graph, ``None`` where it is not asked for.

    Raises:
        InputError: this TensorRT has no calibrators, or the graph is not fp32.
    """
    if options.calibrator != "native":
        return None
    check_has_calibrators(trt)
    if card.precision != "fp32":
        raise InputError(f"{graph}: is {card.precision}; --calibrator native takes the fp32 graph, name NAME_fp32.onnx")
    return tiles_for(card, options.calib or folder("calibrate"), NATIVE_TILES)


def timing_cache_file(place: Path, trt: Any, cuda: Cuda) -> Path:
    """Return the cache file of this device, TensorRT and CUDA in a folder."""
    device = "".join(c if c.isalnum() else "-" for c in cuda.device().name)
    return place / f"{device}-trt{trt.__version__}-cuda{cuda.version()}.timing"


def plan_path(graph: Path, options: BuildOptions) -> Path:
    """Return where the plan of a graph goes; batch sizes other than one are in its name, and so is TensorRT's own calibration."""
    stem = graph.stem if options.calibrator is None else f"{graph.stem.removesuffix('_fp32')}_int8_native"
    suffix = "" if options.batches == (1,) else f"_b{'-'.join(map(str, options.batches))}"
    return (options.output or graph.parent) / f"{stem}{suffix}.plan"


def identity_of(graph: Path, build: Build) -> PlanIdentity:
    """Return what a plan built here and now would be."""
    options, device = build.options, build.cuda.device()
    return PlanIdentity(
        graph_digest=digest_bytes(read_bytes(graph, advice="make it with sr-export")),
        tensorrt=str(build.trt.__version__),
        cuda=build.cuda.version(),
        gpu=device.name,
        capability=device.capability,
        batches=options.batches,
        version_compatible=options.version_compatible,
        hardware_compatible=options.hardware_compatible,
        options=build.facts(),
    )


def is_built(plan: Path, identity: PlanIdentity) -> bool:
    """Return whether a plan of this identity is there, unchanged."""
    if not plan.is_file() or not card_path(plan).is_file():
        return False
    try:
        card = read_plan_card(plan)
        content = read_bytes(plan, advice="build it again")
    except SrDeployError:
        return False
    return card.identity.same_build(identity) and card.plan_digest == digest_bytes(content)


def card_of_plan(card: ModelCard, options: BuildOptions) -> ModelCard:
    """Return the graph's card with the plan's largest batch in its shapes; the digest stays the graph's."""
    changed = card.with_batch(max(options.batches))
    if options.calibrator is not None:
        int8 = dict.fromkeys(card.layers, "int8")
        changed = changed.with_changes(precision="int8", layers=int8, calibration="tensorrt", calibrated_scale=card.default_scale)
    return changed.with_changes(digest=card.digest)
