"""What TensorRT's builder measured, kept for the next build on the same device."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from sr_deploy.errors import SrDeployError
from sr_deploy.files import write_bytes
from sr_deploy.notes import NOTES


def load_timing_cache(path: Path | None, config: Any) -> Any:
    """Give the builder what it measured before on this device; return the cache object."""
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


def save_timing_cache(path: Path | None, cache: Any) -> None:
    """Keep what the builder measured; a plan is not given up because its cache cannot be written."""
    if cache is None or path is None:
        return
    try:
        write_bytes(path, bytes(cache.serialize()))
    except SrDeployError as err:
        NOTES.warning(str(err))
