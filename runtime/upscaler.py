"""``Upscaler``: numpy arrays in, larger numpy arrays out, for use inside other programs.

An engine is loaded once and serves any number of threads: ONNX Runtime runs them side by side; a TensorRT plan, whose execution
context holds one run at a time, takes them in turns.
"""

from __future__ import annotations

import math
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import NoReturn, TypeVar, cast, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sr_deploy.card import ModelCard, check_scale
from sr_deploy.errors import EngineError, InputError
from sr_deploy.options import check_positive, check_provider, check_threads, check_type
from sr_deploy.runtime.backends.engine import Engine, Provider, Tiles, WrappedEngine
from sr_deploy.runtime.backends.ensemble import EnsembleEngine
from sr_deploy.runtime.backends.load import load
from sr_deploy.runtime.engines.shipped import engine_path
from sr_deploy.runtime.pictures.samples import Pixels
from sr_deploy.runtime.upscaling.upscaling import upscale

Sample = TypeVar("Sample", bound=np.generic)
DTYPES = (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.float32))
MOST_CHANNELS = 4
MODES = ("L", "LA", "RGB", "RGBA", "I;16")  # of Pillow's pictures
ORDERS = ("I;16B", "I;16L", "I;16N")  # the last of them in other orders of bytes
INSTEAD = {  # of pictures of other modes, with nothing lost that an engine would see
    "La": "image.convert('LA')",
    "RGBa": "image.convert('RGBA')",
    "I": "numpy.asarray(image).astype(numpy.uint16), where its values are 0 to 65535",
    "F": "numpy.asarray(image), where its values are 0 to 1",
    "LAB": "ImageCms.profileToProfile(image, ImageCms.createProfile('LAB'), ImageCms.createProfile('sRGB'), outputMode='RGB')",
}
FLOAT_RANGE = (-1.0, 2.0)  # overshoot of earlier steps is clipped to 0..1; beyond it a picture is in another range


class Upscaler:
    """An engine that enlarges numpy arrays; thread-safe. Close it, or use it in a ``with`` block.

    One object enlarges by one factor. It belongs to the process that made it: it cannot be pickled, and after a fork each child
    makes its own.
    """

    def __init__(
        self,
        engine: str | os.PathLike[str] | None = None,
        *,
        scale: int | None = None,
        provider: Provider = "auto",
        threads: int | None = None,
        ensemble: bool = False,
        trusted: bool = False,
    ) -> None:
        """Load an engine.

        Args:
            engine: an ``.onnx`` or ``.plan`` file, the name of a shipped engine (``"edsr"``), or ``None`` for
                the default, ``plain_l`` at ``scale``. A file of that name comes before a name.
            scale: the factor; ``None`` is the engine's own default, and x2 where the engine is chosen, too.
            provider: where ONNX Runtime runs: ``auto`` is CUDA where it is offered, else the CPU.
            threads: CPU threads of the engine, 1 to 256, shared by all calls; ``None`` is one for each core.
            ensemble: the mean over eight flips and turns: better, eight times the work.
            trusted: load a plan without a card or with host code: you vouch for it.

        Raises:
            InputError: no such engine, a damaged one, or one that does not serve ``scale``.
            MachineError: what runs this kind of engine is not on this machine.
        """
        check_type("engine", engine, str | os.PathLike | None, "a name or a path")
        check_type("scale", scale, int | None, "a whole number")
        check_type("threads", threads, int | None, "a whole number")
        check_type("ensemble", ensemble, bool, "True or False")
        check_type("trusted", trusted, bool, "True or False")
        check_positive(scale=scale)
        check_threads(threads)
        check_provider(provider)
        self.path: Path = engine_path(engine, scale)
        loaded = load(self.path, provider=provider, threads=threads, trusted=trusted)
        try:
            self.card: ModelCard = loaded.card
            self.scale: int = check_scale(self.card, scale, source=str(self.path), option="scale=")
            self.provider: str = loaded.provider
            turns = loaded if self.path.suffix.lower() == ".onnx" else InTurns(loaded)
            self._engine: Engine | None = EnsembleEngine(turns, source=str(self.path)) if ensemble else turns
        except BaseException:
            loaded.close()
            raise
        calibrated = self.card.calibrated_scale
        if calibrated not in (None, self.scale):
            warnings.warn(f"{self.path}: was calibrated for x{calibrated}, not for x{self.scale}", stacklevel=2)
        self._process = os.getpid()
        self._running = 0
        self._changed = threading.Condition()

    @overload
    def upscale(self, image: NDArray[Sample]) -> NDArray[Sample]: ...

    @overload
    def upscale(self, image: Image.Image) -> Image.Image: ...

    def upscale(self, image: NDArray[Sample] | Image.Image) -> NDArray[Sample] | Image.Image:
        """Return ``image`` enlarged ``scale`` times: a new C-contiguous array of the same dtype and number of dimensions.

        Any number of threads may call this at once.

        Args:
            image: (h, w) or (h, w, 1) grey, (h, w, 2) grey and alpha, (h, w, 3) RGB or (h, w, 4) RGBA, alpha not premultiplied,
                h and w at least 1. uint8 in 0..255, uint16 in 0..65535, or float32 in 0..1, all gamma-encoded as pictures are.
                Finite floats a little outside 0..1 (to -1 and 2) are clipped to it. Any byte order, any strides, read-only or
                not; it is never changed, and must not be by others until this returns. Or a Pillow picture of mode L, LA, RGB,
                RGBA or I;16, or one of a palette or of two levels, which is enlarged in its colours.

        Returns:
            (scale * h, scale * w), with the channels of ``image``. Values are clipped to the range of the dtype; integers are
            rounded to the nearest. Colours where alpha is 0 may change. Of a Pillow picture another, with its ICC profile.

        Raises:
            InputError: another type, dtype or shape, an empty picture, NaN, infinite values or floats of another range.
            EngineError: the backend failed, or this object is closed or belongs to another process.
            MemoryError: there is too little for the result.
        """
        if isinstance(image, Image.Image):
            result = Image.fromarray(self.upscale(array_from_picture(image)))
            result.info.update({name: value for name, value in image.info.items() if name == "icc_profile"})
            return result
        pixels = pixels_from_image(image)
        with self._in_use() as engine:
            found = upscale(engine, cast(Pixels, pixels), self.scale)
        return image_from_pixels(found, image)

    def close(self) -> None:
        """Wait for running calls and free the engine; calls that come later raise. Closing again does nothing."""
        if self._process != os.getpid():
            return  # the engine belongs to the process that made it
        with self._changed:
            engine, self._engine = self._engine, None
            while self._running:
                self._changed.wait()
        if engine is not None:
            engine.close()

    @contextmanager
    def _in_use(self) -> Iterator[Engine]:
        if self._process != os.getpid():  # a fork has no copy of the engine's threads, a run would wait for them for ever
            raise EngineError(f"{self.path}: this Upscaler was made by another process; make one after the fork, in each process")
        with self._changed:
            engine = self._engine
            if engine is None:
                raise EngineError(f"{self.path}: this Upscaler was closed; make another one")
            self._running += 1
        try:
            yield engine
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def __enter__(self) -> Upscaler:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "" if self._engine is not None else ", closed"
        return f"<Upscaler {self.path.name} x{self.scale}, {self.provider}{state}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} cannot be pickled or copied, it holds a loaded engine; make one in each process")


class InTurns(WrappedEngine):
    """An engine that one thread at a time runs."""

    def __init__(self, engine: Engine) -> None:
        """Wrap an engine that is not safe to run from several threads at once; closing this one closes it."""
        super().__init__(engine)
        self._lock = threading.Lock()

    def run(self, tiles: Tiles) -> Tiles:
        """Return new tiles; see :class:`sr_deploy.runtime.backends.engine.Engine`."""
        with self._lock:
            return self.engine.run(tiles)


def array_from_picture(picture: Image.Image) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return the samples of a Pillow picture: (h, w) or (h, w, c).

    Raises:
        InputError: its mode is none that can be enlarged, or its file cannot be decoded.
    """
    try:
        picture.load()
    except (OSError, ValueError, SyntaxError) as err:  # a file is decoded now, and may be damaged or closed
        raise InputError(f"image: cannot be decoded ({err}); open an undamaged file, and close it later") from err
    if picture.mode in ("P", "PA"):
        picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    elif picture.mode == "1":
        picture = picture.convert("L")
    if picture.mode not in (*MODES, *ORDERS):
        instead = INSTEAD.get(picture.mode, "image.convert('RGB')")
        raise InputError(f"image: has mode {picture.mode}, not one of {', '.join(MODES)}; give {instead}")
    return np.asarray(picture)


def pixels_from_image(image: object) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Return a picture as ``upscale`` of ``upscaling.py`` takes it, (h, w, c): uint8 as it is, others float32 in 0..1.

    Raises:
        InputError: it is no picture; see :meth:`Upscaler.upscale`.
    """
    if not isinstance(image, np.ndarray) or isinstance(image, np.ma.MaskedArray):
        kind = f"{type(image).__module__}.{type(image).__qualname__}"
        raise InputError(f"image: is a {kind}, not a numpy array or a Pillow picture; give numpy.asarray(image)")
    dtype = image.dtype.newbyteorder("=")
    if dtype not in DTYPES:
        raise InputError(f"image: has dtype {image.dtype}, not uint8, uint16 or float32; convert it, and its range with it")
    if image.ndim not in (2, 3) or (image.ndim == 3 and not 1 <= image.shape[2] <= MOST_CHANNELS):
        raise InputError(
            f"image: has shape {image.shape}, not (h, w) or (h, w, c) with c from 1 to 4; "
            "move channels to the end with numpy.moveaxis, give frames one by one"
        )
    if not image.size:
        raise InputError(f"image: has shape {image.shape}, which holds no pixel; leave it out")
    # One order in memory: sums of matrix products depend on it in their last bit.
    pixels: NDArray[np.uint8] = np.ascontiguousarray(image[..., None] if image.ndim == 2 else image)
    if dtype == np.uint8:
        return pixels
    if dtype == np.float32:
        return in_range(pixels.astype(np.float32, copy=False))
    # Not as 16 bits: a dark frame is as bright as it says, however little of its range it uses.
    return np.divide(pixels, np.float32(65535.0), dtype=np.float32)


def in_range(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return float pixels clipped to 0..1, the same array where nothing has to be clipped.

    Raises:
        InputError: not all are numbers of that range, give or take what earlier steps overshot.
    """
    low, high = float(pixels.min()), float(pixels.max())  # NaN wins in both
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InputError("image: holds values that are no finite numbers (NaN or infinite); replace them with numpy.nan_to_num")
    if low < FLOAT_RANGE[0] or high > FLOAT_RANGE[1]:
        raise InputError(
            f"image: has float32 values from {low:g} to {high:g}, the range is 0 to 1; divide by 255 or by their peak"
        )
    return pixels if low >= 0.0 and high <= 1.0 else np.clip(pixels, 0.0, 1.0)


def image_from_pixels(found: NDArray[np.generic], image: NDArray[Sample]) -> NDArray[Sample]:
    """Return a result (h, w, c) in the dtype, range and number of dimensions of ``image``; ``found`` may be changed.

    C-contiguous, clipped to 0..1 or to what an integer holds, integers rounded to the nearest.
    """
    shaped = found[..., 0] if image.ndim == 2 else found
    if shaped.dtype == np.float32:
        levels = np.asarray(shaped, np.float32)
        np.clip(levels, 0.0, 1.0, out=levels)
        if image.dtype.kind == "u":
            np.rint(np.multiply(levels, np.float32(65535.0), out=levels), out=levels)
    return np.ascontiguousarray(shaped, dtype=image.dtype)
