"""The errors that users meet; each one carries the exit code of the command it ends.

Messages read *what: what happened, with both values; what to do*. Anything that is not one of these is a defect of
this project and keeps its traceback.
"""

from __future__ import annotations


class SrDeployError(Exception):
    """A failure with a one-line explanation; ``exit_code`` is what the command returns."""

    exit_code = 3


class CheckError(SrDeployError):
    """A check said no: quality below a budget, outputs that do not agree."""

    exit_code = 1


class InputError(SrDeployError):
    """The caller's mistake: a wrong option, or a file that is missing, broken or of another kind."""

    exit_code = 2


class MachineError(SrDeployError):
    """The machine failed or lacks something: disk, memory, device, an uninstalled package."""

    exit_code = 3


class DiskFullError(MachineError):
    """The disk is full, or the user's share of it: nothing more can be written there."""


class EngineError(MachineError):
    """An inference backend failed while loading or running a model."""
