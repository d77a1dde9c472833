"""TensorRT's Python bindings: whether they are there, their version, their logger, and what a loaded plan says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from sr_deploy.errors import EngineError, MachineError
from sr_deploy.runtime.backends.cuda import INSTALL, Cuda


def tensorrt_module() -> ModuleType:
    """Return the TensorRT bindings.

    Raises:
        MachineError: they are not installed or do not load.
    """
    try:
        import tensorrt
    except (ImportError, OSError) as err:
        raise MachineError(f"TensorRT is not installed ({' '.join(str(err).split())}); {INSTALL}") from err
    found: ModuleType = tensorrt
    return found


def release_of(trt: Any) -> tuple[int, int]:
    """Return the major and minor version of the bindings."""
    major, minor = str(trt.__version__).split(".")[:2]
    return int(major), int(minor)


@dataclass(frozen=True)
class PlanOptions:
    """How a plan is loaded and run."""

    trt: Any  # the TensorRT bindings
    cuda: Cuda
    source: str  # the plan's name, for messages
    graphs: bool = True  # launch through CUDA graphs
    host_code: bool = False  # the user vouches for host code inside the plan


def facts_here(trt: Any, cuda: Cuda) -> dict[str, str]:
    """Return what a plan is bound to on this machine: ``tensorrt``, ``capability``, ``gpu``."""
    device = cuda.device()
    return {"tensorrt": str(trt.__version__), "capability": device.capability, "gpu": device.name}


def logger_for(trt: Any) -> Any:
    """Return the process's logger of these bindings: TensorRT keeps the first one it meets, so there is only ever one.

    It holds the errors since ``begin``, and writes everything to the file given there. An exception inside a callback would be
    lost in TensorRT: it is kept in ``stopped``, for the caller to raise.
    """
    found = getattr(trt, "_sr_deploy_logger", None)
    if found is not None:
        return found

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.begin()

        def begin(self, path: Path | None = None) -> None:
            self.path = path
            self.errors: list[str] = []
            self.stopped: BaseException | None = None

        @property
        def last_error(self) -> str:
            return self.errors[-1] if self.errors else ""

        def log(self, severity: Any, message: str) -> None:
            try:
                if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                    self.errors.append(" ".join(str(message).split()))
                if self.path is not None:
                    with self.path.open("a", encoding="utf-8") as stream:
                        stream.write(f"{getattr(severity, 'name', severity)}: {message}\n")
            except BaseException as err:
                self.stopped = self.stopped or err

    trt._sr_deploy_logger = Logger()
    return trt._sr_deploy_logger


def deserialize(content: bytes, logger: Any, options: PlanOptions) -> tuple[Any, Any]:
    """Return TensorRT's run-time and the engine in ``content``.

    Raises:
        EngineError: TensorRT does not start, or rejects the plan.
    """
    trt = options.trt
    try:
        runtime = trt.Runtime(logger)
    except TypeError as err:  # what its bindings raise for a null pointer
        raise EngineError(
            f"{options.source}: TensorRT {trt.__version__} does not start here ({logger.last_error or err})"
        ) from err
    if options.host_code and release_of(trt) >= (8, 6):
        runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(content)
    if engine is None:
        said = f"TensorRT {trt.__version__} cannot load it ({logger.last_error})"
        raise EngineError(f"{options.source}: {said}; build it again with sr-build")
    return runtime, engine


def input_and_output(trt: Any, engine: Any) -> tuple[str, str]:
    """Return the names of the one input and the one output."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    modes = {name: engine.get_tensor_mode(name) for name in names}
    inputs = [name for name in names if modes[name] == trt.TensorIOMode.INPUT]
    outputs = [name for name in names if modes[name] == trt.TensorIOMode.OUTPUT]
    if len(inputs) != 1 or len(outputs) != 1:
        raise EngineError(
            f"the plan has {len(inputs)} inputs and {len(outputs)} outputs, one of each is needed; build it again with sr-build"
        )
    return inputs[0], outputs[0]
