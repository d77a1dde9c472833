"""How a command shows where training stands."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from sr_deploy.train.loop.status import Status, label


def reporter(every_s: float = 30.0) -> Callable[[Status], None]:
    """Return a function that shows training: a live line on a terminal, a line now and then elsewhere."""
    live = sys.stderr.isatty()
    last = time.monotonic()

    def report(status: Status) -> None:
        nonlocal last
        now = time.monotonic()
        if status.psnr_db is None and now - last < (0.5 if live else every_s):
            return
        last = now
        text = describe(status)
        if status.psnr_db is not None or not live:
            print(("\r\x1b[K" if live else "") + text, file=sys.stderr, flush=True)
        else:
            print("\r\x1b[K" + text, end="", file=sys.stderr, flush=True)

    return report


def describe(status: Status) -> str:
    """Return one line about where training stands."""
    losses = " ".join(f"{label(name)} {value:.4g}" for name, value in status.losses.items())
    done = f"{100.0 * status.fraction:5.1f} % step {status.step} {losses} lr {status.lr:.2e}"
    if status.psnr_db is not None:
        return done + " PSNR " + " ".join(f"x{s} {v:.3f}" for s, v in status.psnr_db.items()) + " dB"
    return done + f" {status.images_per_s:.1f} images/s, {status.seconds_left / 60.0:.1f} min left"
