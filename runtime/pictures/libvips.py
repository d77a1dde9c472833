"""libvips, by pyvips: it reads and writes deep pictures, and large ones by rows.

It is set up for pictures that are seen once: without a cache, in one thread, since stages overlap elsewhere, and without any
loader but three, so that a file cannot reach the other decoders in it. All of that holds for the process.
"""

from __future__ import annotations

import logging
import threading
from functools import cache
from pathlib import Path
from types import ModuleType

from sr_deploy.errors import InputError, MachineError

LOADERS = ("VipsForeignLoadJpeg", "VipsForeignLoadPng", "VipsForeignLoadTiff")
SETTING_UP = threading.Lock()
SILENCE = logging.NullHandler()  # else the words of libraries are a second line beside ours


def libvips() -> ModuleType:
    """Return pyvips, set up.

    Raises:
        MachineError: it is not installed, or it finds no libvips.
    """
    with SETTING_UP:
        return set_up()


@cache
def set_up() -> ModuleType:
    """Return pyvips, imported and set up once: while loaders are blocked and unblocked, none can be used."""
    try:
        import pyvips
    except (ImportError, OSError) as err:  # the wheel pyvips alone looks for a libvips of the system
        reason = " ".join(str(err).split())
        raise MachineError(f"pyvips finds no libvips ({reason}); pip install 'pyvips[binary]'") from err
    logging.getLogger("pyvips").addHandler(SILENCE)
    pyvips.cache_set_max(0)
    pyvips.concurrency_set(1)
    pyvips.operation_block_set("VipsForeignLoad", True)
    for name in LOADERS:
        pyvips.operation_block_set(name, False)
    module: ModuleType = pyvips
    return module


def damaged(path: Path, err: Exception, advice: str) -> InputError:
    """Return one line about a picture that libvips cannot decode."""
    lines = [line.strip() for line in str(err).splitlines() if line.strip()]
    reason = lines[-1].replace(str(path), "the file") if lines else type(err).__name__
    return InputError(f"{path}: cannot be decoded ({reason}); {advice}")
