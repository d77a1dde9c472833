"""What ``sr-infer`` does once its arguments are read."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

from sr_deploy.console import failed, progress
from sr_deploy.errors import EngineError, InputError, SrDeployError
from sr_deploy.pictures import DEFAULT, Reading
from sr_deploy.runtime.bench import CPU
from sr_deploy.runtime.engine import Engine, load
from sr_deploy.runtime.ensemble import EnsembleEngine
from sr_deploy.runtime.folder_run import FolderRun, Task
from sr_deploy.runtime.large import Memory
from sr_deploy.runtime.large_memory import available_bytes
from sr_deploy.runtime.picture_formats import FOLLOWING, FORMATS, Writing, followed, format_of_name, result_name
from sr_deploy.runtime.picture_options import reading_of, writing_of
from sr_deploy.runtime.pipeline import StageTimes
from sr_deploy.runtime.upscale import check_scale


def infer_command(arguments: argparse.Namespace) -> int:
    """Enlarge every picture; a bad one is named and the others are still done. Return the exit code."""
    pictures: list[Path] = arguments.pictures
    reading, writing = reading_of(arguments), writing_of(arguments)
    with closing(opened(arguments)) as engine:
        scale = check_scale(engine.card, arguments.scale, source=str(arguments.engine))
        calibrated = engine.card.calibrated_scale
        if calibrated not in (None, scale):
            failed("sr-infer", f"warning: {arguments.engine}: was calibrated for x{calibrated}, not for x{scale}", 0)
        outputs = output_paths(pictures, arguments.output, scale, reading=reading, writing=writing)
        pairs, inputs = list(zip(pictures, outputs, strict=True)), Inputs([*pictures, arguments.engine])
        codes: list[int] = []
        times = StageTimes()
        with progress("upscaling", len(pictures)) as advance:

            def on_part(task: Task, part: float) -> None:
                advance(f"{task.source.name} {100 * part:.0f} %", by=0)

            on_cpu = getattr(engine, "provider", "") == CPU
            run = FolderRun(
                engine,
                scale,
                overwrite=arguments.overwrite,
                overlap=not on_cpu,
                on_part=on_part,
                reading=reading,
                writing=writing,
                memory=Memory(arguments.memory or available_bytes(), reading, writing),
            )
            with closing(run.run(pairs, times, check=inputs.check)) as tasks:
                for task in tasks:
                    if task.frames > 1 and not reading.frames:
                        failed(
                            "sr-infer",
                            f"warning: {task.source}: has {task.frames} frames, the first one is enlarged; --frames takes all",
                            0,
                        )
                    if task.error is not None:
                        codes.append(task.error.exit_code if isinstance(task.error, SrDeployError) else 3)
                        failed("sr-infer", failure(task.error, task.source), codes[-1])
                    else:
                        print(task.output)
                    advance(task.source.name)
        if arguments.times:
            failed("sr-infer", str(times), 0)
    if codes and len(pictures) > 1:
        failed("sr-infer", f"{len(codes)} of {len(pictures)} pictures failed", codes[-1])
    return max(codes, default=0)


def opened(arguments: argparse.Namespace) -> Engine:
    """Return the engine that the command line names, as an ensemble where that is asked for."""
    engine = load(arguments.engine, provider=arguments.provider, threads=arguments.threads, trusted=arguments.trust_plan)
    return EnsembleEngine(engine, source=str(arguments.engine)) if arguments.ensemble else engine


def failure(err: SrDeployError | MemoryError | OSError, picture: Path) -> str:
    """Return one line about what went wrong with ``picture``."""
    if isinstance(err, EngineError):
        return f"{picture}: {err}"
    if isinstance(err, SrDeployError):
        return str(err)
    if isinstance(err, MemoryError):
        return f"{picture}: out of memory; cut the picture into parts"
    return f"{picture}: {err.strerror or err}; check its name and the folder of the result"


class Inputs:
    """What a run reads, so that no result replaces any of it, whatever ``--overwrite`` says."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Look every file up once."""
        self.places = {place_of(path): path for path in paths}
        self.files: dict[tuple[int, int], Path] = {}
        for path in paths:
            with suppress(OSError):
                found = path.stat()
                self.files[found.st_dev, found.st_ino] = path

    def check(self, task: Task) -> None:
        """Check one picture and the place of its result.

        Raises:
            InputError: the picture is a folder, or the result would replace something that is read.
        """
        if os.path.isdir(task.source):  # noqa: PTH112 -- a name that cannot be looked up is told when it is read
            raise InputError(f"{task.source}: a folder, not a picture; name the pictures in it")
        clash = self.places.get(place_of(task.output))
        with suppress(OSError):
            found = task.output.stat()
            clash = self.files.get((found.st_dev, found.st_ino), clash)
        if clash is not None:
            which = "the input itself" if clash == task.source else f"the input {clash}"
            raise InputError(f"{task.output}: is {which}; choose another name with -o")


def place_of(path: Path) -> str:
    """Return where a name lies, links in its folder followed, whether or not it exists; nothing is raised for loops."""
    return os.path.join(os.path.realpath(path.parent), path.name)  # noqa: PTH118


def output_paths(
    pictures: Sequence[Path], asked: str | None, scale: int, *, reading: Reading = DEFAULT, writing: Writing = FOLLOWING
) -> list[Path]:
    """Return where each picture goes: ``NAME_x2.SUFFIX`` beside it or in a folder, or the one file asked for.

    A name that ends in a slash is a folder, and so is one without a suffix. The suffix of the one file decides its format.

    Raises:
        InputError: two pictures would be written to one file, or one file is asked for several pictures, or its suffix is no
            picture's or contradicts ``--format``; nothing is done then.
    """
    if asked == "":
        raise InputError("-o '': an empty name; name a folder or a picture file")
    output = None if asked is None else Path(asked)
    known = None if output is None else format_of_name(output)
    if output is None or asked is None:
        paths = [picture.with_name(result_name(picture, scale, followed(picture, writing, reading))) for picture in pictures]
    elif output.exists() and not output.is_dir() and known is None:
        raise InputError(f"{output}: a file that is no picture; name a folder or a picture file with -o")
    elif output.suffix and not output.is_dir() and not asked.endswith(("/", os.sep)):
        check_named(output, known, len(pictures), writing)
        paths = [output]
    else:
        paths = [output / result_name(picture, scale, followed(picture, writing, reading)) for picture in pictures]
    seen: dict[str, Path] = {}
    for picture, path in zip(pictures, paths, strict=True):
        place = place_of(path)
        if place in seen:
            raise InputError(f"{path}: would be written for {seen[place]} and for {picture}; use separate folders")
        seen[place] = picture
    return paths


def check_named(output: Path, known: str | None, pictures: int, writing: Writing) -> None:
    """Check the one file that is asked for.

    Raises:
        InputError: its suffix is no picture's or contradicts ``--format``, or there are several pictures.
    """
    if known is None:
        suffixes = ", ".join(suffix for kind in FORMATS.values() for suffix in kind.suffixes[:1])
        raise InputError(f"{output}: {output.suffix} is no format that is written; end its name in {suffixes}, or name a folder")
    if writing.format not in (None, known):
        raise InputError(f"{output}: its suffix says {known}, --format {writing.format}; leave one of them out")
    if pictures > 1:
        raise InputError(f"{output}: one file for {pictures} pictures; name a folder with -o")
    Writing(known, writing.quality)  # a quality is no use where the suffix names a format without loss
