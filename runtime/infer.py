"""What ``sr-infer`` does once its arguments are read."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

from sr_deploy.console import failed, progress
from sr_deploy.errors import EngineError, InputError, SrDeployError
from sr_deploy.runtime.bench import CPU
from sr_deploy.runtime.engine import Engine, load
from sr_deploy.runtime.ensemble import EnsembleEngine
from sr_deploy.runtime.folder_run import FolderRun, Task
from sr_deploy.runtime.pipeline import StageTimes
from sr_deploy.runtime.upscale import check_scale
from sr_deploy.runtime.video import check_installed, enlarge_films
from sr_deploy.runtime.video_names import film_outputs, is_film


def infer_command(arguments: argparse.Namespace) -> int:
    """Enlarge every picture; a bad one is named and the others are still done. Return the exit code."""
    films = [path for path in arguments.pictures if is_film(path)]
    pictures: list[Path] = [path for path in arguments.pictures if not is_film(path)]
    if films:
        check_installed()
    with closing(opened(arguments)) as engine:
        scale = check_scale(engine.card, arguments.scale, source=str(arguments.engine))
        calibrated = engine.card.calibrated_scale
        if calibrated not in (None, scale):
            failed("sr-infer", f"warning: {arguments.engine}: was calibrated for x{calibrated}, not for x{scale}", 0)
        arguments.scale = scale
        film_pairs = list(zip(films, film_outputs(films, arguments.output, scale, others=len(pictures)), strict=True))
        outputs = output_paths(pictures, arguments.output, scale) if pictures or not films else []
        pairs, inputs = list(zip(pictures, outputs, strict=True)), Inputs([*pictures, *films, arguments.engine])
        codes: list[int] = []
        times = StageTimes()
        with progress("upscaling", len(pictures)) as advance:

            def on_part(task: Task, part: float) -> None:
                advance(f"{task.source.name} {100 * part:.0f} %", by=0)

            on_cpu = getattr(engine, "provider", "") == CPU
            run = FolderRun(engine, scale, overwrite=arguments.overwrite, overlap=not on_cpu, on_part=on_part)
            with closing(run.run(pairs, times, check=inputs.check)) as tasks:
                for task in tasks:
                    if task.frames > 1:
                        failed("sr-infer", f"warning: {task.source}: has {task.frames} frames, the first one is enlarged", 0)
                    if task.error is not None:
                        codes.append(task.error.exit_code if isinstance(task.error, SrDeployError) else 3)
                        failed("sr-infer", failure(task.error, task.source), codes[-1])
                    else:
                        print(task.output)
                    advance(task.source.name)
        if arguments.times and pictures:
            failed("sr-infer", str(times), 0)
        if film_pairs:
            codes += enlarge_films(arguments, engine, film_pairs, check=lambda film, output: inputs.check(Task(film, output)))
    if codes and len(arguments.pictures) > 1:
        failed("sr-infer", f"{len(codes)} of {len(arguments.pictures)} {'inputs' if films else 'pictures'} failed", codes[-1])
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


def output_paths(pictures: Sequence[Path], asked: str | None, scale: int) -> list[Path]:
    """Return where each picture goes: ``NAME_x2.png`` beside it or in a folder, or the one file asked for.

    A name that ends in a slash is a folder, and so is one without a suffix.

    Raises:
        InputError: two pictures would be written to one file, or one file is asked for several pictures; nothing is done then.
    """
    names = [f"{picture.stem}_x{scale}.png" for picture in pictures]
    if asked == "":
        raise InputError("-o '': an empty name; name a folder or a .png file")
    output = None if asked is None else Path(asked)
    if output is None or asked is None:
        paths = [picture.with_name(name) for picture, name in zip(pictures, names, strict=True)]
    elif output.exists() and not output.is_dir() and output.suffix.lower() != ".png":
        raise InputError(f"{output}: a file that is no .png; name a folder or a .png file with -o")
    elif output.suffix and not output.is_dir() and not asked.endswith(("/", os.sep)):
        if output.suffix.lower() != ".png":
            raise InputError(f"{output}: pictures are written as PNG; end its name in .png, or name a folder")
        if len(pictures) > 1:
            raise InputError(f"{output}: one file for {len(pictures)} pictures; name a folder with -o")
        paths = [output]
    else:
        paths = [output / name for name in names]
    seen: dict[str, Path] = {}
    for picture, path in zip(pictures, paths, strict=True):
        place = place_of(path)
        if place in seen:
            raise InputError(f"{path}: would be written for {seen[place]} and for {picture}; use separate folders")
        seen[place] = picture
    return paths
