"""What can be told of a command line before anything is computed: files and folders that do not fit it."""

from __future__ import annotations

import argparse
from pathlib import Path

from sr_deploy.calib_data import folder
from sr_deploy.errors import InputError
from sr_deploy.export.calibration.calibrate import read_calibration
from sr_deploy.export.calibration.pictures import CalibrationSet
from sr_deploy.export.plans.calibration import is_cache
from sr_deploy.files import digest_bytes, list_pictures, read_bytes


def check_places(arguments: argparse.Namespace) -> None:
    """Check that the output can be a folder and that ``--thresholds`` is a file of thresholds.

    Raises:
        InputError: it cannot, or is none.
    """
    if arguments.output.exists() and not arguments.output.is_dir():
        raise InputError(f"{arguments.output}: a file, and graphs go into a folder; name one with -o")
    if arguments.thresholds is not None and not is_cache(arguments.thresholds):
        read_calibration(arguments.thresholds)


def check_apart(arguments: argparse.Namespace, tiles: CalibrationSet) -> None:
    """Check that no picture that will be measured on is one that thresholds are made from.

    Raises:
        InputError: one is.
    """
    if arguments.max_drop is None and not arguments.sensitivity:
        return
    for path in list_pictures(arguments.select or folder("select")):
        same = tiles.paths.get(_digest(path))
        if same is not None:
            raise InputError(
                f"{path}: is among the calibration pictures too ({same}); "
                "what is measured on must not be what thresholds were made from: name other photographs with --select"
            )


def _digest(path: Path) -> str:
    try:
        return digest_bytes(read_bytes(path, advice="check the folder"))
    except InputError:  # it is left out when it is measured on, and named there
        return ""
