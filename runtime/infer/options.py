"""What ``sr-infer`` is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sr_deploy.errors import InputError
from sr_deploy.options import check_positive, check_provider, check_threads, check_types
from sr_deploy.pictures import DEFAULT, Reading
from sr_deploy.runtime.backends.engine import Provider
from sr_deploy.runtime.pictures.formats import FOLLOWING, Writing
from sr_deploy.runtime.video.names import check_crf


@dataclass(frozen=True)
class InferOptions:
    """What is enlarged, by which engine, and where results go."""

    pictures: tuple[str, ...]  # files, folders, patterns, and - for standard input, as they were given
    engine: Path
    output: str | None = None  # a folder, a file for one picture, or -; None: beside the input
    scale: int | None = None  # None: the engine's own
    overwrite: bool = False  # replace results that exist; of the two, one at most
    skip_existing: bool = False
    shard: tuple[int, int] = (1, 1)  # (i, n): of every n pictures the i-th, from 1 on
    json_log: Path | None = None
    reading: Reading = DEFAULT
    writing: Writing = FOLLOWING
    memory: int | None = None  # bytes that a picture may take; None: what is free when pictures are begun
    provider: Provider = "auto"
    threads: int | None = None  # of the CPU; None: one for each core
    trusted: bool = False  # load a plan without a card or with host code
    ensemble: bool = False
    codec: str | None = None  # of videos; None: the container's usual one
    crf: float | None = None  # of videos; None: the encoder's usual one
    times: bool = False  # say at the end what each stage took

    def __post_init__(self) -> None:
        """Raise ``InputError`` where a value is outside its range, or two contradict each other."""
        check_types(self)
        if not self.pictures:
            raise InputError("pictures=(): nothing to enlarge; name at least one")
        if self.overwrite and self.skip_existing:
            raise InputError("overwrite=True, skip_existing=True: contradict each other; leave one of them out")
        if not 1 <= self.shard[0] <= self.shard[1]:
            raise InputError(f"shard={self.shard}: no part of {self.shard[1]}; give (1, n) to (n, n)")
        check_crf(self.crf)
        check_positive(scale=self.scale, memory=self.memory)
        check_provider(self.provider)
        check_threads(self.threads)
