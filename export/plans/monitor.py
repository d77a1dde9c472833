"""How far a build is: TensorRT's own progress monitor where there is one, since TensorRT 10."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sr_deploy.progress import Advance, progress
from sr_deploy.runtime.backends.tensorrt_library import release_of

MONITOR_SINCE = (10, 0)


@contextmanager
def build_progress(trt: Any, config: Any, label: str) -> Iterator[Any]:
    """Show a bar from TensorRT's own monitor where there is one, else how long it has taken; yields the monitor."""
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
