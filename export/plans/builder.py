"""Building a plan with TensorRT 8.5 to 11 from an exported graph; one that computes something else is rejected.

What differs between releases is decided here and nowhere else. TensorRT 10 and 11 build strongly typed networks: the graph's own
types are the precision. 8.x ignores them, so the flags and each convolution's precision are set from the model card.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx

from sr_deploy import __version__
from sr_deploy.card import ModelCard
from sr_deploy.errors import CheckError, EngineError, InputError, SrDeployError
from sr_deploy.export.plans.calibration import CALIBRATORS_UNTIL, calibrator_for
from sr_deploy.export.plans.graph import float_weights, half_remainder, pairs_behind_relus, with_batch
from sr_deploy.export.plans.options import BuildOptions
from sr_deploy.files import write_bytes
from sr_deploy.notes import NOTES
from sr_deploy.progress import Advance, progress
from sr_deploy.runtime.backends.cuda import Cuda
from sr_deploy.runtime.backends.engine import Tiles
from sr_deploy.runtime.backends.tensorrt_library import logger_for, release_of

STRONGLY_TYPED_SINCE = (10, 0)
COMPATIBILITY_SINCE = (8, 6)  # version and hardware compatibility, optimization levels
MONITOR_SINCE = (10, 0)
WORKSPACE_SHARE = 0.75  # of the device memory that is free
AGREEMENT_DB = {"fp32": 80.0, "fp16": 55.0, "int8": 42.0}  # plan against ONNX Runtime on the same graph, peak 1
ADVICE = "look into its .plan.log, and run the .onnx meanwhile"
FLATTEST = 1e-4  # standard deviation of an output that is no picture


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
    cache = load_timing_cache(build, config)
    calibrator = set_calibrator(build, config)
    try:
        with build_progress(build, config) as monitor:
            plan = builder.build_serialized_network(network, config)
    finally:
        if calibrator is not None:
            calibrator.close()
    for callback in (logger, monitor, calibrator):
        if callback is not None and callback.stopped is not None:
            raise callback.stopped  # an exception inside a callback is lost in TensorRT: Ctrl-C, a full disk
    if plan is None:
        raise EngineError(f"{build.log}: {explain(logger.errors)}")
    save_timing_cache(build, cache)
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
    network, problems = parse_once(build, builder, graph)
    if network is None:
        raise EngineError(f"{build.log}: TensorRT {build.trt.__version__} cannot read the graph: {'; '.join(problems)}")
    return network


def parse_once(build: Build, builder: Any, graph: onnx.ModelProto) -> tuple[Any, list[str]]:
    """Return the network, or ``None`` and what the parser says."""
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
        return network, []
    problems = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        place = int(error.node())
        node = graph.graph.node[place] if 0 <= place < len(graph.graph.node) else None
        where = f"node {node.name} ({node.op_type}): " if node is not None else ""
        problems.append(f"{where}{' '.join(str(error.desc()).split())}")
    return None, problems or [build.logger.last_error or "no reason given"]


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
    if release_of(trt) < STRONGLY_TYPED_SINCE:
        set_precision(build, config, network)


def set_precision(build: Build, config: Any, network: Any) -> None:
    """Give 8.x what a strongly typed network says by itself: flags, and the precision of each float convolution."""
    trt, card = build.trt, build.card
    if release_of(trt) < STRONGLY_TYPED_SINCE:
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


def load_timing_cache(build: Build, config: Any) -> Any:
    """Give the builder what it measured before on this device; return the cache object."""
    path = build.timing_cache
    if path is None:
        return None
    content = b""
    with suppress(OSError):
        content = path.read_bytes()
    cache = config.create_timing_cache(content)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        cache = config.create_timing_cache(b"")  # damaged, or of another device or release: start over
        config.set_timing_cache(cache, ignore_mismatch=False)
    return cache


def save_timing_cache(build: Build, cache: Any) -> None:
    """Keep what the builder measured; a plan is not given up because its cache cannot be written."""
    path = build.timing_cache
    if cache is None or path is None:
        return
    try:
        write_bytes(path, bytes(cache.serialize()))
    except SrDeployError as err:
        NOTES.warning(str(err))


@contextmanager
def build_progress(build: Build, config: Any) -> Iterator[Any]:
    """Show a bar from TensorRT's own monitor where there is one, else how long it has taken; yields the monitor."""
    trt, label = build.trt, f"building {build.log.name.removesuffix('.log')}"
    if release_of(trt) >= MONITOR_SINCE:
        with progress(label, 100) as advance:
            monitor = monitor_for(trt, advance, label)
            config.progress_monitor = monitor
            yield monitor
        return
    with progress(f"{label} (some minutes)", 1) as advance:
        yield None
        advance("")


def monitor_for(trt: Any, advance: Advance, label: str) -> Any:
    """Return TensorRT's progress monitor that moves a bar of 100 steps by its outermost phase; ``None`` before TensorRT 10."""
    if release_of(trt) < MONITOR_SINCE:
        return None

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}
            self.outermost = ""
            self.shown = 0
            self.stopped: BaseException | None = None

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.steps[phase_name] = max(int(num_steps), 1)
            if not parent_phase:
                self.outermost = phase_name

        def step_complete(self, phase_name: str, step: int) -> bool:
            try:
                if phase_name == self.outermost:
                    reached = min(100, 100 * (int(step) + 1) // self.steps[phase_name])
                    advance(f"{label}: {phase_name}", by=max(reached - self.shown, 0))
                    self.shown = max(reached, self.shown)
            except BaseException as err:
                self.stopped = self.stopped or err
            return self.stopped is None  # False ends the build

        def phase_finish(self, phase_name: str) -> None:
            self.steps.pop(phase_name, None)

    return Monitor()


MEANINGS = (
    (r"[Cc]ould not find any implementation for node (\S+)", "no kernel fits node {0}: usually too little free GPU memory"),
    (r"[Oo]ut of memory|OutOfMemory|insufficient memory", "the GPU has too little free memory; close what else runs on it"),
    (r"[Nn]o importer registered for op: (\w+)", "this TensorRT does not know the operator {0}"),
    (r"[Uu]nsupported SM|compute capability|not supported on this (?:device|platform)", "this TensorRT does not serve this GPU"),
)


def explain(errors: Sequence[str]) -> str:
    """Return what a failed build means, followed by TensorRT's own words."""
    words = "; ".join(dict.fromkeys(errors)) or "TensorRT gave no reason"
    for pattern, meaning in MEANINGS:
        found = re.search(pattern, words)
        if found:
            return f"no plan could be built: {meaning.format(*found.groups())} ({words[:300]})"
    return f"no plan could be built ({words[:300]})"


def check_output(name: str, card: ModelCard, output: Tiles, expected: Tiles, *, native_limit: float | None = None) -> float:
    """Check what a plan computed against ONNX Runtime on the same graph; return the agreement in dB (peak 1).

    Raises:
        CheckError: not finite, constant, or too far away.
    """
    if not np.isfinite(output).all():
        raise CheckError(f"{name}: the plan returns values that are no finite numbers; nothing was written, {ADVICE}")
    if float(output.std()) < FLATTEST <= float(expected.std()):
        raise CheckError(f"{name}: the plan returns one constant, {float(output.mean()):.3f}; nothing was written, {ADVICE}")
    error = float(np.mean(np.square(output.astype(np.float64) - expected)))
    agreement = -10.0 * float(np.log10(max(error, 1e-20)))
    limit = AGREEMENT_DB[card.precision] if native_limit is None else native_limit
    if agreement < limit:
        raise CheckError(
            f"{name}: the plan agrees with ONNX Runtime by {agreement:.1f} dB, {limit:.0f} dB is the least for {card.precision}; "
            f"nothing was written, {ADVICE}"
        )
    return agreement
