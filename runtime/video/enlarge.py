"""What ``sr-infer`` does with videos: each goes through the engine, with a bar of its own."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

from sr_deploy.console import failed, missing_package
from sr_deploy.errors import MachineError
from sr_deploy.progress import Advance, progress
from sr_deploy.runtime.backends.engine import Engine
from sr_deploy.runtime.video.options import VideoOptions


def check_installed() -> None:
    """Check that videos can be read at all.

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


def enlarge(
    engine: Engine, scale: int, files: tuple[Path, Path], options: VideoOptions, *, times: bool = False
) -> tuple[int, int]:
    """Enlarge one video with a bar that shows frames, frames a second and the time left; return width and height of the result.

    Args:
        engine: stays open.
        scale: the factor.
        files: the video and its result.
        options: how it is enlarged and written.
        times: say what each stage took.

    Raises:
        MachineError: PyAV is not installed; or see :meth:`sr_deploy.runtime.video.run.VideoRun.run`, also of other errors.
    """
    check_installed()
    video, output = files
    from sr_deploy.runtime.video.run import VideoRun

    with ExitStack() as stack:
        bar: list[Advance] = []
        began = time.perf_counter()

        def on_start(frames: int) -> None:
            bar.append(stack.enter_context(progress(video.name, frames)))

        def on_frame(done: int) -> None:
            bar[0](f"{video.name} {done / (time.perf_counter() - began):.2f} frames/s")

        def warn(text: str) -> None:
            failed("sr-infer", f"warning: {text}", 0)

        run = VideoRun(engine, scale, options, warn=warn, on_start=on_start, on_frame=on_frame)
        size = run.run(video, output)
    if times:
        failed("sr-infer", f"{video.name}: {run.times}", 0)
    return size
