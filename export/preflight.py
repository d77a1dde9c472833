"""What can be said of an export before anything is computed: files and folders that do not fit it."""

from __future__ import annotations

from sr_deploy.budgets import BUDGETS, read_budgets
from sr_deploy.errors import InputError
from sr_deploy.export.calibration.calibrate import read_calibration
from sr_deploy.export.options import ExportOptions
from sr_deploy.export.photographs import Photographs
from sr_deploy.export.plans.calibration import is_cache


def check_places(options: ExportOptions) -> None:
    """Check that the output can be a folder, and that ``--thresholds`` and ``--budget`` are files of these.

    Raises:
        InputError: it cannot, or is none.
    """
    if options.output.exists() and not options.output.is_dir():
        raise InputError(f"{options.output}: a file, and graphs go into a folder; name one with -o")
    if options.guarded:
        read_budgets(options.budget or BUDGETS)
    if options.thresholds is not None and not is_cache(options.thresholds):
        read_calibration(options.thresholds)


def check_apart(selection: Photographs, calibration: Photographs) -> None:
    """Check that no picture that will be measured on is one that thresholds are made from.

    Raises:
        InputError: one is.
    """
    for digest, path in selection.paths.items():
        same = calibration.paths.get(digest)
        if same is not None:
            raise InputError(
                f"{path}: is among the calibration pictures too ({same}); "
                "what is measured on must not be what thresholds were made from: name other photographs with --select"
            )
