"""TensorRT's own entropy calibration, for those who compare: its calibrator where there is one, and its cache as thresholds.

The cache is text: a line that names the release and the algorithm, then ``tensor: hex`` with the scale as a big-endian float32.
A threshold is 127 scales. TensorRT 11 has no calibrators: there, thresholds come from ``sr-export`` alone.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from sr_deploy.errors import InputError
from sr_deploy.export.graphs.reading import OUTPUT_KEY, convolution_nodes, residual_outputs
from sr_deploy.files import read_bytes
from sr_deploy.runtime.backends.cuda import Buffer, Cuda
from sr_deploy.runtime.backends.engine import Tiles
from sr_deploy.runtime.backends.tensorrt_library import release_of
from sr_deploy.thresholds import QMAX

HEADER = b"TRT-"
CALIBRATORS_UNTIL = (11, 0)  # the first release without


def is_cache(path: Path) -> bool:
    """Return whether a file is a TensorRT calibration cache."""
    return read_bytes(path, advice="name a thresholds file or a calibration cache").startswith(HEADER)


def read_cache(path: Path) -> dict[str, float]:
    """Return the threshold of each tensor in a TensorRT calibration cache.

    Raises:
        InputError: missing, or not such a file.
    """
    content = read_bytes(path, advice="make it with sr-build --calibrator native")
    try:
        lines = content.decode().splitlines()
        if not content.startswith(HEADER) or len(lines) < 2:
            raise ValueError("no TRT- header, or nothing behind it")
        pairs = (line.rpartition(":") for line in lines[1:] if line.strip())
        found = {name.strip(): QMAX * float(struct.unpack(">f", bytes.fromhex(value.strip()))[0]) for name, _, value in pairs}
        bad = [name for name, threshold in found.items() if not (np.isfinite(threshold) and threshold > 0.0)]
        if bad:
            raise ValueError(f"{bad[0]} has no usable scale")
    except (ValueError, struct.error) as err:
        raise InputError(f"{path}: not a TensorRT calibration cache ({err}); make it again") from err
    return found


def thresholds_of(path: Path, model: onnx.ModelProto) -> dict[str, float]:
    """Return the threshold of each convolution's input, and of what ends a residual block, from a cache made on this graph.

    Raises:
        InputError: the cache lacks one, so it was made on another graph.
    """
    found = read_cache(path)
    wanted = {node.name: node.input[0] for node in convolution_nodes(model)}
    missing = [value for value in wanted.values() if value not in found]
    if missing:
        raise InputError(
            f"{path}: has no scale for {missing[0]} ({len(found)} tensors are in it); it was made on another graph: "
            "calibrate the fp32 graph of this export"
        )
    ends = {f"{name}{OUTPUT_KEY}": value for name, value in residual_outputs(model).items() if value in found}
    return {name: found[value] for name, value in {**wanted, **ends}.items()}


def check_has_calibrators(trt: Any) -> None:
    """Check that this TensorRT calibrates by itself.

    Raises:
        InputError: it does not.
    """
    if release_of(trt) >= CALIBRATORS_UNTIL:
        raise InputError(
            f"--calibrator native: TensorRT {trt.__version__} has no calibrators, 10.16 was the last with them; "
            "sr-export's thresholds work with every release"
        )


def calibrator_for(trt: Any, cuda: Cuda, tiles: Iterable[Tiles]) -> Any:
    """Return TensorRT's entropy calibrator over ``tiles``; it keeps its cache in ``cache``, and does not read an old one.

    Raises:
        InputError: this TensorRT has none.
    """
    check_has_calibrators(trt)
    if release_of(trt) < CALIBRATORS_UNTIL:

        class Calibrator(trt.IInt8EntropyCalibrator2):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.IInt8EntropyCalibrator2.__init__(self)
                self.tiles: Iterator[Tiles] = iter(tiles)
                self.buffer: Buffer | None = None
                self.cache = b""
                self.stopped: BaseException | None = None

            def get_batch_size(self) -> int:
                return 1

            def get_batch(self, names: list[str]) -> list[int] | None:
                try:
                    tile = next(self.tiles, None)
                    return None if tile is None else [self.put(tile)]
                except BaseException as err:
                    self.stopped = self.stopped or err
                    return None

            def put(self, tile: Tiles) -> int:
                if self.buffer is None:
                    self.buffer = Buffer(cuda, tile.shape)
                return put_on_device(cuda, self.buffer, tile)

            def read_calibration_cache(self) -> None:
                return None

            def write_calibration_cache(self, content: Any) -> None:
                try:
                    self.cache = bytes(content)
                except BaseException as err:
                    self.stopped = self.stopped or err

            def close(self) -> None:
                if self.buffer is not None:
                    self.buffer.close()
                    self.buffer = None

        return Calibrator()
    return None


def put_on_device(cuda: Cuda, buffer: Buffer, tile: Tiles) -> int:
    """Copy a tile to the device through ``buffer`` and return its address there."""
    buffer.array[:] = tile
    assert buffer.device is not None and buffer.host is not None
    cuda.call("cudaMemcpy", buffer.device, buffer.host, buffer.size, cuda.module.cudaMemcpyKind.cudaMemcpyHostToDevice)
    return buffer.device
