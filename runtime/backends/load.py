"""Engine files to engines: an ``.onnx`` by ONNX Runtime, a ``.plan`` by TensorRT; neither is imported before it is needed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path

from sr_deploy.errors import InputError, MachineError
from sr_deploy.runtime.backends.engine import Engine, Provider, on_cpu


def load(
    path: Path, *, provider: Provider = "auto", threads: int | None = None, trusted: bool = False, exact: bool = False
) -> Engine:
    """Load an ``.onnx`` with ONNX Runtime or a ``.plan`` with TensorRT; nothing heavy is imported before the suffix is known.

    Args:
        path: the engine file.
        provider: where ONNX Runtime runs it; ``auto`` is CUDA where it is offered, else the CPU.
        threads: CPU threads; ``None`` is one for each core.
        trusted: whether the user vouches for a plan without a card, or with host code (``--trust-plan``).
        exact: whether integer sums on the CPU never saturate, so that an int8 graph gives the same on every processor;
            slower on x86 without VNNI.

    Raises:
        InputError: missing, of an unknown kind, damaged, or without a model card.
        MachineError: what runs this kind of engine is not on this machine.
    """
    suffix = path.suffix.lower()
    if suffix not in (".onnx", ".plan"):
        raise InputError(
            f"{path}: not an engine ({suffix or 'no suffix'}); name an .onnx made by sr-export or a .plan by sr-build"
        )
    if not path.is_file():
        raise InputError(f"{path}: no such file; make it with {'sr-build' if suffix == '.plan' else 'sr-export'}")
    if suffix == ".plan":
        from sr_deploy.runtime.backends.tensorrt_engine import load_plan

        try:
            return load_plan(path, trusted=trusted)
        except MachineError as err:
            if type(err) is not MachineError:
                raise  # TensorRT or CUDA failed: it is here, and said why
            raise MachineError(f"{path}: {err}; or use the .onnx it was built from") from err
    try:
        from sr_deploy.runtime.backends.onnx_engine import OnnxEngine
    except ImportError as err:
        raise MachineError(
            f"no inference engine is installed ({' '.join(str(err).split())}); pip install 'sr-deploy[cpu]' (onnxruntime), "
            "'sr-deploy[cuda]' (onnxruntime-gpu) or 'sr-deploy[tensorrt]'"
        ) from err
    return OnnxEngine(path, provider=provider, threads=threads, exact=exact)


def exact_engines(engines: Mapping[str, Engine], stack: ExitStack, *, threads: int | None = None) -> dict[str, Engine]:
    """Return what judges the quality of ``engines``, by the path they were loaded from: the same on every processor.

    Of an int8 graph on the CPU that is a second engine, whose sums never saturate, which ``stack`` closes; of others it is the
    engine itself.
    """
    found = dict(engines)
    for name, engine in engines.items():
        if engine.card.precision == "int8" and on_cpu(engine):
            found[name] = stack.enter_context(closing(load(Path(name), provider="cpu", threads=threads, exact=True)))
    return found
