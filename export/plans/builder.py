"""Building a plan with TensorRT 8.5 to 11 from an exported graph; one that computes something else is rejected.

What differs between releases is decided here and nowhere else. TensorRT 10 and 11 build strongly typed networks: the graph's own
types are the precision. 8.x ignores them, so the flags and each convolution's precision are set from the model card.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import onnx

from sr_deploy import __version__
from sr_deploy.card import ModelCard
from sr_deploy.errors import EngineError, InputError
from sr_deploy.export.plans.calibration import CALIBRATORS_UNTIL, calibrator_for
from sr_deploy.export.plans.graph import float_weights, half_remainder, pairs_behind_relus, with_batch
from sr_deploy.export.plans.monitor import build_progress
from sr_deploy.export.plans.options import BuildOptions
from sr_deploy.export.plans.outcome import explain
from sr_deploy.export.plans.timing_cache import load_timing_cache, save_timing_cache
from sr_deploy.runtime.backends.cuda import Cuda
from sr_deploy.runtime.backends.engine import Tiles
from sr_deploy.runtime.backends.tensorrt_library import logger_for, release_of

STRONGLY_TYPED_SINCE = (10, 0)
COMPATIBILITY_SINCE = (8, 6)  # version and hardware compatibility, optimization levels
WORKSPACE_SHARE = 0.75  # of the device memory that is free


class CalibrationTiles(Protocol):
    """Pictures to calibrate on, and their digest."""

    digest: str

    def __iter__(self) -> Iterator[Tiles]: ...


@dataclass
class Build:
    """One build: the bindings and device it runs on, what it builds, and where messages go."""

    trt: Any
    cuda: Cuda
    card: ModelCard
    options: BuildOptions
    log: Path
    native: CalibrationTiles | None = None  # calibrate by TensorRT itself: the fp32 graph becomes an int8 plan
    timing_cache: Path | None = None  # the file
    logger: Any = field(init=False)
    calibration: bytes = field(default=b"", init=False)  # TensorRT's own cache, once it has calibrated

    def __post_init__(self) -> None:
        self.logger = logger_for(self.trt)

    def facts(self) -> dict[str, str]:
        """Return what changes the plan beside batches and compatibility, for its identity."""
        found = {"sr-deploy": __version__}  # its graph passes
        if self.options.opt_level is not None:
            found["opt_level"] = str(self.options.opt_level)
        return found if self.native is None else {**found, "calibrator": f"native on {self.native.digest}"}


def check_options(trt: Any, options: BuildOptions) -> None:
    """Check that this TensorRT has what is asked for.

    Raises:
        InputError: it does not; names the release that does.
    """
    asked = {
        "--hardware-compat": options.hardware_compatible,
        "--version-compatible": options.version_compatible,
        "--opt-level": options.opt_level is not None,
    }
    if release_of(trt) < COMPATIBILITY_SINCE:
        for name, wanted in asked.items():
            if wanted:
                raise InputError(f"{name}: TensorRT {trt.__version__} does not have it, 8.6 and later do; leave it out")


def graph_for(build: Build, model: onnx.ModelProto, *, wide_weights: bool = False) -> onnx.ModelProto:
    """Return the graph that TensorRT is given: what its release needs, the batch dimension set."""
    if build.card.precision == "int8":
        model = pairs_behind_relus(model)
        if wide_weights:
            model = float_weights(model)
        if release_of(build.trt) >= STRONGLY_TYPED_SINCE:
            model = half_remainder(model)
    batches = build.options.batches
    return with_batch(model, batches[0] if len(batches) == 1 else None)


def build_plan(build: Build, model: onnx.ModelProto) -> bytes:
    """Return the serialized plan of an exported graph.

    Before TensorRT 10 some parsers reject int8 weights, and some builders find no way to fuse them: then the same graph is tried
    with float weights of equal value.

    Raises:
        EngineError: TensorRT cannot parse the graph or finds no way to run it.
    """
    twice = build.card.precision == "int8" and release_of(build.trt) < STRONGLY_TYPED_SINCE
    try:
        return build_once(build, model, wide_weights=False)
    except EngineError:
        if not twice:
            raise
    return build_once(build, model, wide_weights=True)


def build_once(build: Build, model: onnx.ModelProto, *, wide_weights: bool) -> bytes:
    """Return the plan from one form of the graph.

    Raises:
        EngineError: TensorRT cannot parse it or finds no way to run it.
    """
    trt, logger = build.trt, build.logger
    logger.begin(build.log)
    try:
        builder = trt.Builder(logger)
    except TypeError as err:  # what its bindings raise for a null pointer
        raise EngineError(f"{build.log}: TensorRT {trt.__version__} does not start here ({logger.last_error or err})") from err
    network = parse(build, builder, graph_for(build, model, wide_weights=wide_weights))
    config = builder.create_builder_config()
    configure(build, config, network)
    add_profiles(build, builder, config, network)
    cache = load_timing_cache(build.timing_cache, config)
    calibrator = set_calibrator(build, config)
    try:
        with build_progress(trt, config, f"building {build.log.name.removesuffix('.log')}") as monitor:
            plan = builder.build_serialized_network(network, config)
    finally:
        if calibrator is not None:
            calibrator.close()
    for callback in (logger, monitor, calibrator):
        if callback is not None and callback.stopped is not None:
            raise callback.stopped  # an exception inside a callback is lost in TensorRT: Ctrl-C, a full disk
    if plan is None:
        raise EngineError(f"{build.log}: {explain(logger.errors)}")
    save_timing_cache(build.timing_cache, cache)
    if calibrator is not None:
        build.calibration = calibrator.cache
    return bytes(plan)


def set_calibrator(build: Build, config: Any) -> Any:
    """Let TensorRT calibrate by itself where that is asked for; return the calibrator."""
    trt, tiles = build.trt, build.native
    if tiles is None:
        return None
    calibrator = calibrator_for(trt, build.cuda, tiles)
    if release_of(trt) < CALIBRATORS_UNTIL:
        config.set_flag(trt.BuilderFlag.INT8)
        config.set_flag(trt.BuilderFlag.FP16)
        config.int8_calibrator = calibrator
    return calibrator


def parse(build: Build, builder: Any, graph: onnx.ModelProto) -> Any:
    """Return the network that TensorRT's parser makes of the graph.

    Raises:
        EngineError: it cannot; lists every error of the parser.
    """
    trt = build.trt
    if build.native is not None and release_of(trt) >= STRONGLY_TYPED_SINCE:
        flags = 0  # a calibrator chooses the types
    elif release_of(trt) >= STRONGLY_TYPED_SINCE:
        flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    else:
        flags = 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, build.logger)
    if parser.parse(graph.SerializeToString()):
        return network
    problems = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        place = int(error.node())
        node = graph.graph.node[place] if 0 <= place < len(graph.graph.node) else None
        where = f"node {node.name} ({node.op_type}): " if node is not None else ""
        problems.append(f"{where}{' '.join(str(error.desc()).split())}")
    reasons = "; ".join(problems) or build.logger.last_error or "no reason given"
    raise EngineError(f"{build.log}: TensorRT {trt.__version__} cannot read the graph: {reasons}")


def configure(build: Build, config: Any, network: Any) -> None:
    """Set memory, precision and compatibility."""
    trt, options = build.trt, build.options
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(WORKSPACE_SHARE * build.cuda.device().free_bytes))
    config.clear_flag(trt.BuilderFlag.TF32)
    if release_of(trt) >= COMPATIBILITY_SINCE:
        if options.opt_level is not None:
            config.builder_optimization_level = options.opt_level
        if options.hardware_compatible:
            config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
        if options.version_compatible:
            config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    set_precision(build, config, network)


def set_precision(build: Build, config: Any, network: Any) -> None:
    """Give 8.x what a strongly typed network says by itself: flags, and the precision of each float convolution."""
    trt, card = build.trt, build.card
    if release_of(trt) >= STRONGLY_TYPED_SINCE:
        return
    if card.precision == "fp32":
        return
    config.set_flag(trt.BuilderFlag.FP16)
    if card.precision == "int8":
        config.set_flag(trt.BuilderFlag.INT8)
    config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    outputs = {network.get_output(index).name for index in range(network.num_outputs)}
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        chosen = card.layers.get(layer.name)
        if layer.type != trt.LayerType.CONVOLUTION or chosen is None or chosen == "int8":
            continue  # int8 follows from the Q/DQ pairs around it
        # Beside int8 convolutions, what was kept is float16, as in a strongly typed build.
        kind = trt.float32 if card.precision == "fp16" and chosen == "fp32" else trt.float16
        layer.precision = kind
        if layer.get_output(0).name not in outputs:
            layer.set_output_type(0, kind)


def add_profiles(build: Build, builder: Any, config: Any, network: Any) -> None:
    """Add one optimization profile for each of several batch sizes."""
    batches = build.options.batches
    if len(batches) == 1:
        return
    shape = build.card.input_shape
    assert shape is not None
    name = network.get_input(0).name
    for batch in batches:
        profile = builder.create_optimization_profile()
        fixed = (batch, *shape[1:])
        profile.set_shape(name, fixed, fixed, fixed)
        config.add_optimization_profile(profile)
