"""What a gate may be asked for. Light to import: the command line is read before anything heavy is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sr_deploy.budgets import BUDGETS
from sr_deploy.options import check_positive, check_provider, check_threads, check_types

if TYPE_CHECKING:
    from sr_deploy.runtime.backends.engine import Provider


@dataclass(frozen=True)
class GateOptions:
    """What engines are compared with, and how."""

    reference: Path  # the fp32 network: checkpoint or fp32 graph
    data: Path  # folder of high-resolution pictures
    budget: Path = BUDGETS  # in TOML: how much may be lost
    scale: int | None = None  # None: every scale that an engine serves, or the one that it was calibrated for
    provider: Provider = "auto"  # where ONNX Runtime runs
    native_sums: bool = False  # int8 as this processor computes it: without VNNI its sums saturate
    trust_plan: bool = False  # load a plan without a card or with host code
    threads: int | None = None  # of the CPU; None: as many as it has cores

    def __post_init__(self) -> None:
        """Raise ``InputError`` where a value cannot be."""
        check_types(self)
        check_positive(scale=self.scale)
        check_provider(self.provider)
        check_threads(self.threads)
