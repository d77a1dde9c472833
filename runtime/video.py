"""What ``sr-infer`` does with films: each goes through the engine, with a bar of its own; a bad one is named."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from sr_deploy.console import Advance, failed, missing_package, progress
from sr_deploy.errors import EngineError, MachineError, SrDeployError
from sr_deploy.runtime.bench import CPU
from sr_deploy.runtime.engine import Engine


def check_installed() -> None:
    """Check that films can be read at all.

    Raises:
        MachineError: PyAV is not installed, or does not load.
    """
    with missing_package("video"):
        try:
            import av  # noqa: F401
        except ModuleNotFoundError:
            raise
        except ImportError as err:
            raise MachineError(f"PyAV does not load ({' '.join(str(err).split())}); pip install 'sr-deploy[video]'") from err


def enlarge_films(
    arguments: argparse.Namespace,
    engine: Engine,
    pairs: Sequence[tuple[Path, Path]],
    check: Callable[[Path, Path], None],
) -> list[int]:
    """Enlarge films and return the exit code of each that failed.

    Args:
        arguments: of ``sr-infer``; ``scale`` is a number by now.
        engine: stays open.
        pairs: (film, result).
        check: refuses a film and the place of its result by raising, before it is read.

    Call :func:`check_installed` first.
    """
    codes: list[int] = []
    for film, output in pairs:
        try:
            check(film, output)
            enlarge(arguments, engine, film, output)
            print(output)
        except (SrDeployError, MemoryError, OSError) as err:
            codes.append(err.exit_code if isinstance(err, SrDeployError) else 3)
            failed("sr-infer", message_of(err, film), codes[-1])
    return codes


def enlarge(arguments: argparse.Namespace, engine: Engine, film: Path, output: Path) -> None:
    """Enlarge one film with a bar that shows frames, frames a second and the time left."""
    from sr_deploy.runtime.video_run import FilmRun, Options

    with ExitStack() as stack:
        bar: list[Advance] = []
        began = time.perf_counter()

        def on_start(frames: int) -> None:
            bar.append(stack.enter_context(progress(film.name, frames)))

        def on_frame(done: int) -> None:
            bar[0](f"{film.name} {done / (time.perf_counter() - began):.2f} frames/s")

        def warn(text: str) -> None:
            failed("sr-infer", f"warning: {text}", 0)

        on_cpu = getattr(engine, "provider", "") == CPU
        options = Options(arguments.codec, arguments.crf, arguments.overwrite, overlap=not on_cpu)
        run = FilmRun(engine, arguments.scale, options, warn=warn, on_start=on_start, on_frame=on_frame)
        run.run(film, output)
    if arguments.times:
        failed("sr-infer", f"{film.name}: {run.times}", 0)


def message_of(err: SrDeployError | MemoryError | OSError, film: Path) -> str:
    """Return one line about what went wrong with a film."""
    if isinstance(err, MemoryError):
        return f"{film}: out of memory; use a smaller --scale"
    if isinstance(err, EngineError):
        return f"{film}: {err}"
    if isinstance(err, SrDeployError):
        return str(err)
    return f"{film}: {err.strerror or err}; check its name and the folder of the result"
