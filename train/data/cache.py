"""Training data on disk: arrays that are made once, shared between runs, and read through memory maps.

An array is one ``.npy`` file, named by the SHA-256 of what decides its content: the digest of the picture file's bytes, the
settings, and ``CONTENT``, the version of the code between them. It is written whole or not at all, so two processes may fill
one folder at once: both write the same file, and the last one stays. A file whose header or size is not what was made is
made again. The decoder's version does not count: a JPEG keeps the pixels it was decoded to first.
"""

from __future__ import annotations

import hashlib
import resource
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sr_deploy.errors import InputError, MachineError
from sr_deploy.files import replacing
from sr_deploy.notes import NOTES
from sr_deploy.train.data.pairs import Raster
from sr_deploy.train.data.store import Facts, Kind

CONTENT = 1  # to be raised whenever decoding, luma, shrinking or degradation give other values


@dataclass(frozen=True)
class Header:
    """What a file holds, and where."""

    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    offset: int


class Kept:
    """An array in a file, mapped while it is in use."""

    def __init__(self, path: Path, header: Header, map_: Callable[[Kept], NDArray[np.generic]]) -> None:
        self.path, self.header, self.map_ = path, header, map_

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return self.header.shape

    def __getitem__(self, index: tuple[slice, slice, slice], /) -> NDArray[np.generic]:
        """Return a part of the array, a view into the file.

        Raises:
            MachineError: the file is gone.
        """
        return np.asarray(self.map_(self)[index])


class Maps:
    """The last files that were mapped; sent to another process, it begins with none."""

    def __init__(self) -> None:
        self._mapped = lru_cache(maxsize=most_maps())(map_array)

    def __call__(self, kept: Kept) -> NDArray[np.generic]:
        """Return the array of ``kept``, mapped; see :func:`map_array`."""
        return self._mapped(kept)

    def cache_clear(self) -> None:
        """Let go of all files."""
        self._mapped.cache_clear()

    def __reduce__(self) -> tuple[type[Maps], tuple[()]]:
        return Maps, ()


class Cache:
    """Keeps arrays in the files of a folder."""

    def __init__(self, folder: Path) -> None:
        """Use ``folder``, which is made when the first array is written.

        Raises:
            InputError: it is a file, or may not be read.
        """
        self.folder = folder
        check_folder(folder)
        self._mapped = Maps()

    def identify(self, path: Path) -> str:
        """Return the digest of the file's bytes, so that a renamed or copied picture is the same.

        Raises:
            InputError: the file cannot be read.
        """
        digest = hashlib.sha256()
        try:
            with path.open("rb") as stream:
                while block := stream.read(2**20):
                    digest.update(block)
        except OSError as err:
            raise InputError(f"{path}: cannot be read ({err.strerror}); check its name and permissions") from err
        return digest.hexdigest()

    def keep(self, facts: Facts, make: Callable[[], NDArray[np.generic]]) -> Raster:
        """Return the array of ``facts``, on disk; ``make`` makes it where it is missing or damaged.

        Raises:
            MachineError: the folder cannot be read or written, or the disk is full.
        """
        name = hashlib.sha256(repr((CONTENT, *facts)).encode()).hexdigest()
        path = self.folder / name[:2] / f"{name}.npy"
        header = read_header(path)
        if header is None:
            header = write_array(path, np.ascontiguousarray(make()))
        return Kept(path, header, self._mapped)

    def recall(self, facts: Facts, make: Callable[[], NDArray[Kind]]) -> NDArray[Kind]:
        """Return the small array of ``facts``, read into memory."""
        kept = self.keep(facts, make)
        assert isinstance(kept, Kept)
        return np.array(map_array(kept))


def check_folder(folder: Path) -> None:
    """Check before any work that ``folder`` can be used.

    Raises:
        InputError: it is a file, or may not be read.
    """
    try:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"--cache {folder}: a file, a folder is needed; choose another name")
        if folder.exists():
            next(folder.iterdir(), None)
    except OSError as err:
        raise InputError(f"--cache {folder}: cannot be read ({err.strerror}); check its name and permissions") from err


def most_maps() -> int:
    """Return how many files to hold mapped at once: a map holds its file open, and a process may open only so many."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 4096 if soft == resource.RLIM_INFINITY else min(max(soft // 4, 64), 4096)


def map_array(kept: Kept) -> NDArray[np.generic]:
    """Return the array in a file, read-only; a plain array, because parts of ``np.memmap`` are slow to make.

    Raises:
        MachineError: the file is gone, or was cut short while it was in use.
    """
    try:
        return np.asarray(np.memmap(kept.path, kept.header.dtype, "r", kept.header.offset, kept.header.shape))
    except (OSError, ValueError) as err:
        reason = err.strerror if isinstance(err, OSError) else err
        raise MachineError(f"{kept.path}: changed while it was in use ({reason}); run again, the cache mends itself") from err


def read_header(path: Path) -> Header | None:
    """Return what a file holds, or nothing where there is no file, or none of the size that its header tells.

    Raises:
        MachineError: the file may not be read.
    """
    try:
        with path.open("rb") as stream:
            major = np.lib.format.read_magic(stream)[0]
            if major != 1:
                raise ValueError(f"format {major}")
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
            header = Header(dtype, shape, stream.tell())
        if fortran or path.stat().st_size != header.offset + int(np.prod(shape)) * dtype.itemsize:
            raise ValueError("its size is not what its header tells")
    except FileNotFoundError:
        return None
    except OSError as err:
        raise MachineError(f"{path}: cannot be read ({err.strerror}); check it, or choose another folder with --cache") from err
    except Exception as err:  # numpy raises whatever its parser met: ValueError, SyntaxError, TokenError, ...
        NOTES.warning(f"{path}: damaged ({' '.join(str(err).split())}), made again")
        return None
    return header


def write_array(path: Path, array: NDArray[np.generic]) -> Header:
    """Write ``array``, whole or not at all, and return what the file holds.

    Raises:
        MachineError: the folder cannot be made or written, or the disk is full.
    """
    try:
        with replacing(path) as temporary, temporary.open("wb") as stream:
            np.lib.format.write_array(stream, array, version=(1, 0))
            offset = stream.tell() - array.nbytes
    except InputError as err:  # it would look like a fault of the picture
        raise MachineError(f"--cache: {err}") from err
    return Header(array.dtype, array.shape, offset)
