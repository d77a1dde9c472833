"""The ONNX Runtime backend: an ``.onnx`` graph is its own engine file."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime as ort

from sr_deploy.card import ModelCard
from sr_deploy.errors import EngineError, InputError, MachineError
from sr_deploy.runtime.backends.card_check import check_card, check_shapes
from sr_deploy.runtime.backends.engine import CPU, Gpu, Provider, Tiles, check_tiles
from sr_deploy.runtime.backends.onnx_file import read_card

PROVIDERS = {"cpu": CPU, "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
PROVIDER_OPTIONS = {"CUDAExecutionProvider": {"use_tf32": "0"}}  # on by default; fp32 would be less exact than its name
ERRORS_ONLY = 3  # ONNX Runtime's log severity


class OnnxEngine:
    """A graph loaded by ONNX Runtime; safe to run from several threads at once."""

    def __init__(self, path: Path, *, provider: Provider = "auto", threads: int | None = None, exact: bool = False) -> None:
        """Check and load ``path``; see :func:`sr_deploy.runtime.backends.load.load`."""
        self.path = path
        self._card = read_card(path)
        if self._card.input_shape is None:
            raise InputError(f"{path}: its card names no input shape; export it again with sr-export")
        check_card(self._card, source=str(path))
        self._session: ort.InferenceSession | None = open_session(path, providers_for(provider), threads, exact=exact)
        self.provider: str = self._session.get_providers()[0]
        check_provider(provider, self.provider)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        check_shapes(self._card, [x.shape for x in inputs], [x.shape for x in outputs], source=str(path))
        self._input = inputs[0].name

    @property
    def card(self) -> ModelCard:
        """The card in the file."""
        return self._card

    @property
    def batches(self) -> tuple[int, ...]:
        """The one batch of the graph."""
        assert self._card.input_shape is not None
        return (self._card.input_shape[0],)

    @property
    def gpu(self) -> Gpu | None:
        """``None``: ONNX Runtime has it, if there is one."""
        return None

    def run(self, tiles: Tiles) -> Tiles:
        """Run the graph on any number of tiles; see :class:`sr_deploy.runtime.backends.engine.Engine`."""
        check_tiles(tiles, self._card)
        if self._session is None:
            raise EngineError(f"{self.path}: the engine was closed; load it again")
        (batch,) = self.batches
        outputs = []
        for start in range(0, len(tiles), batch):
            part = tiles[start : start + batch]
            missing = batch - len(part)
            full = np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]) if missing else part
            try:
                output = self._session.run(None, {self._input: np.ascontiguousarray(full)})[0]
            except Exception as err:  # ONNX Runtime's own errors share no base class
                raise EngineError(
                    f"{self.path}: ONNX Runtime failed ({_first_line(err)}); see sr-export to make it again"
                ) from err
            outputs.append(np.asarray(output, np.float32)[: len(part)])
        return np.concatenate(outputs)

    def close(self) -> None:
        """Free the session."""
        self._session = None


def providers_for(provider: Provider) -> list[str]:
    """Return ONNX Runtime's provider names, best first.

    Raises:
        InputError: the installed ONNX Runtime has no such provider.
    """
    offered = ort.get_available_providers()
    if provider == "auto":
        return [name for name in (PROVIDERS["cuda"], PROVIDERS["cpu"]) if name in offered]
    if PROVIDERS[provider] not in offered:
        raise InputError(
            f"--provider {provider}: the installed ONNX Runtime offers {', '.join(offered)}; "
            "pip install 'sr-deploy[cuda]' on a machine with a GPU"
        )
    return [PROVIDERS[provider]]


def check_provider(asked: Provider, found: str) -> None:
    """Check that a session runs where it was asked to: ONNX Runtime falls back to the CPU with no more than a warning.

    Raises:
        MachineError: it does not.
    """
    if asked != "auto" and found != PROVIDERS[asked]:
        raise MachineError(
            f"--provider {asked}: ONNX Runtime could not start {PROVIDERS[asked]} and would use {found}; "
            "check the driver and that CUDA and cuDNN fit this onnxruntime-gpu, or use --provider cpu"
        )


def cores() -> int:
    """Return the number of processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def open_session(
    model: Path | bytes,
    providers: list[str],
    threads: int | None,
    *,
    exact: bool = False,
    pooled: bool = False,
) -> ort.InferenceSession:
    """Return a session for a file or a serialized model.

    ``exact`` asks for integer sums that never saturate, on the CPU: without VNNI the fast kernels add pairs of products in 16
    bits (onnxruntime_session_options_config_keys.h, ``session.x64quantprecision``); the exact ones are about half as fast there.
    ``pooled`` ones have no threads that spin, and give memory back after each run, to a pool that they share: for many that run
    one after another, again and again, beside other work.

    Raises:
        InputError: ONNX Runtime cannot read the model.
    """
    options = ort.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    options.intra_op_num_threads = threads or cores()
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = not pooled
    if pooled:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        _open_pool()
        options.enable_mem_pattern = False  # blocks of their own fit into what another session gave back
        options.add_session_config_entry("session.use_env_allocators", "1")
    if exact:
        options.add_session_config_entry("session.x64quantprecision", "1")
    chosen = [(name, PROVIDER_OPTIONS.get(name, {})) for name in providers]
    try:
        return ort.InferenceSession(str(model) if isinstance(model, Path) else model, options, providers=chosen)
    except Exception as err:  # ONNX Runtime's own errors share no base class
        name = model if isinstance(model, Path) else "the graph"
        raise InputError(f"{name}: ONNX Runtime cannot load it ({_first_line(err)}); export it again") from err


@cache
def _open_pool() -> None:
    """Give this process a pool of memory on the CPU; it grows by what is asked for, and lasts as long as the process."""
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    most, extend_as_asked, default = 0, 1, -1  # OrtArenaCfg in onnxruntime_c_api.h; no limit
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg(most, extend_as_asked, default, default))


def _first_line(err: Exception) -> str:
    return str(err).strip().splitlines()[0][:200] if str(err).strip() else type(err).__name__
