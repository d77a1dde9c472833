"""What is checked before any work: where results go, and the devices."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from sr_deploy.errors import InputError, MachineError
from sr_deploy.train.loop.devices import check_devices
from sr_deploy.train.options import MachineOptions


def check_output(path: Path, *, overwrite: bool) -> None:
    """Check before any work that ``path`` may be written.

    Raises:
        InputError: it has another suffix, lies below a file, or exists and may not be replaced.
        MachineError: its folder may not be written.
    """
    if path.suffix != ".safetensors":
        raise InputError(f"{path}: a checkpoint's name ends in .safetensors, this one in {path.suffix or 'nothing'}")
    if path.is_dir():
        raise InputError(f"{path}: a folder; choose another name")
    place = next((folder for folder in path.absolute().parents if folder.exists()), path)
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        kind = MachineError if place.is_dir() else InputError
        raise kind(f"{path}: {place} is no folder that may be written; choose another place, or check its permissions")
    if path.exists() and not overwrite:
        raise InputError(f"{path}: exists already; add --overwrite to replace it, or choose another name")
    state = path.with_suffix(".train.safetensors")
    if state.exists() and not overwrite:
        raise InputError(
            f"{state}: the training state of an earlier run; add --resume to continue it, or --overwrite to replace it"
        )


def check_log_dir(path: Path | None) -> None:
    """Check before any work that ``--log-dir`` is a folder or can become one.

    Raises:
        InputError: it is a file.
    """
    if path is not None and path.exists() and not path.is_dir():
        raise InputError(f"--log-dir {path}: a file, a folder is needed; choose another name")


def check_device(options: MachineOptions) -> None:
    """Apply ``--threads``, by default the cores shared by all processes, and check ``--device``, ``--devices``, ``--precision``.

    Raises:
        InputError: CUDA is asked for where there is none, or too few devices, or a precision that the device does not train in.
    """
    check_devices(options.device, options.precision, options.devices)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    elif options.devices > 1:
        torch.set_num_threads(max(torch.get_num_threads() // options.devices, 1))
