"""A video through ``sr-infer``: wall time against the engine's own time on the same tiles, in one run.

``python benchmarks/video.py ENGINE [--count 24 --size 384 256 --threads 2]``. The video is a photograph that comes with the
tests, moved by a few pixels from frame to frame. The engine's own time is that of its runs on every tile of the video with
nothing else going on; the two take turns for some rounds and the fastest of each counts. ``cpu`` is the same in seconds of
processor time, which a busy machine changes less.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream

from sr_deploy.console import run, table
from sr_deploy.files import list_pictures, write_text
from sr_deploy.runtime.backends.engine import Engine, on_cpu
from sr_deploy.runtime.backends.load import load
from sr_deploy.runtime.backends.onnx_engine import cores
from sr_deploy.runtime.bench.machine import processor
from sr_deploy.runtime.pictures.read import read_pixels
from sr_deploy.runtime.upscaling.stages import StageTimes
from sr_deploy.runtime.upscaling.tiling import Band
from sr_deploy.runtime.video.options import VideoOptions
from sr_deploy.runtime.video.run import VideoRun
from sr_deploy.runtime.video.source import Picture, open_video
from sr_deploy.runtime.video.target import choose_target
from sr_deploy.runtime.video.upscale import FrameWork

ROOT = Path(__file__).resolve().parent.parent
STAGES = ("decode", "tiles", "engine", "colour", "encode")


def make_video(path: Path, *, count: int, size: tuple[int, int]) -> None:
    """Write a video of (w, h) pixels, 25 frames a second."""
    sources = [read_pixels(picture)[..., :3] for picture in list_pictures(ROOT / "tests" / "pictures")]
    source = next(s for s in sources if s.shape[2] == 3)
    w, h = size
    tiled = np.tile(source, (-(-h // source.shape[0]), -(-w // source.shape[1]), 1))[:h, :w]
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"crf": "16"})
        assert isinstance(video, VideoStream)
        video.width, video.height, video.pix_fmt = w, h, "yuv420p"
        for index in range(count):
            moved = np.ascontiguousarray(np.roll(tiled, (index, 3 * index), axis=(0, 1)))
            frame = av.VideoFrame.from_ndarray(moved, "rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))


def video_bands(engine: Engine, path: Path) -> list[Band]:
    """Return all tiles that a video puts through the engine."""
    scale, bands = engine.card.default_scale, []
    with closing(open_video(path)) as video:
        for item in video.items([]):
            if isinstance(item, Picture):
                target = choose_target(video, item, "libx264", scale, print)
                bands += list(FrameWork(engine.card, item.shot, target).bands())
    return bands


def engine_alone(engine: Engine, bands: list[Band]) -> tuple[float, float]:
    """Return the seconds, and those of processor time, that the engine takes for the tiles of a video."""
    began, cpu = time.perf_counter(), time.process_time()
    for band in bands:
        engine.run(band.tiles)
    return time.perf_counter() - began, time.process_time() - cpu


def video_times(engine: Engine, path: Path) -> dict[str, float]:
    """Return the seconds of each stage of a whole run, and of all of it."""
    times, cpu = StageTimes(), time.process_time()
    options = VideoOptions(overwrite=True, overlap=not on_cpu(engine))
    VideoRun(engine, engine.card.default_scale, options, times=times).run(path, path.with_name("result.mp4"))
    return {**{stage: times.seconds[stage] for stage in STAGES}, "wall": times.wall_s, "cpu": time.process_time() - cpu}


def main() -> int:
    """Measure, print the table and write it where asked."""
    parser = argparse.ArgumentParser(description="Time a video through an engine against the engine alone.")
    parser.add_argument("engine", type=Path)
    parser.add_argument("--count", type=int, default=24, help="frames (default: 24)")
    parser.add_argument(
        "--size", type=int, nargs=2, default=[384, 256], metavar=("W", "H"), help="of the video (default: 384 256)"
    )
    parser.add_argument("--threads", type=int, help="of the engine, on the CPU (default: all cores)")
    parser.add_argument("--rounds", type=int, default=3, help="the fastest counts (default: 3)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    w, h = arguments.size

    def command() -> int:
        engine = load(arguments.engine, threads=arguments.threads, trusted=True)
        with tempfile.TemporaryDirectory() as name, closing(engine):
            path = Path(name) / "video.mp4"
            make_video(path, count=arguments.count, size=(w, h))
            bands = video_bands(engine, path)
            engine.run(bands[0].tiles)
            rounds = [(engine_alone(engine, bands), video_times(engine, path)) for _ in range(arguments.rounds)]
        alone, alone_cpu = (min(r[0][i] for r in rounds) for i in (0, 1))
        found = {name: min(r[1][name] for r in rounds) for name in rounds[0][1]}
        found |= {"engine_alone": alone, "engine_cpu": alone_cpu}
        found |= {"wall_over_engine": found["wall"] / alone, "cpu_over_engine": found["cpu"] / alone_cpu}
        print(table([["seconds", *found], ["video", *(f"{value:.2f}" for value in found.values())]]))
        if arguments.json is not None:
            facts = {
                "file": arguments.engine.name,
                "processor": f"{cores()} cores of an {processor()}",
                "count": arguments.count,
            }
            facts |= {"size": arguments.size, "tile_count": sum(len(b.tiles) for b in bands)}
            write_text(arguments.json, json.dumps({**facts, **found}, indent=2) + "\n")
        return 0

    return run("video", command)


if __name__ == "__main__":
    sys.exit(main())
