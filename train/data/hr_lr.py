"""Which pictures are trained on, and the low-resolution pictures that belong to them.

The names are those of DIV2K (Agustsson and Timofte, CVPRW 2017): ``0001.png`` in ``DIV2K_train_HR`` is ``0001x2.png`` in
``DIV2K_train_LR_bicubic/X2``. The folder given may be the one above ``X2`` or ``X2`` itself, and names may also be equal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from sr_deploy.errors import InputError
from sr_deploy.files import list_pictures
from sr_deploy.pictures import picture_size
from sr_deploy.planes import read_rgb
from sr_deploy.train.data.config import DataConfig

CUT = 12  # sets are often cut to a multiple of 12 before they are shrunk, so that x2, x3 and x4 fit

Size = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True)
class Listed:
    """One picture to train on."""

    hr: Path
    lr: Mapping[int, Path] = field(default_factory=dict)  # by scale; a scale that is missing is made by bicubic


def list_training_pictures(config: DataConfig) -> list[Listed]:
    """Return the pictures of ``config`` in their order, with their low-resolution pictures.

    Raises:
        InputError: a folder without pictures, a range beyond their number, a low-resolution picture missing or of another size.
    """
    found = [(folder, path) for folder in config.folders for path in list_pictures(folder)]
    found = found if config.span is None else pick_range(found, config.span)
    if config.lr is None:
        return [Listed(path) for _, path in found]
    names = {path.relative_to(config.lr).with_suffix("").as_posix(): path for path in reversed(list_pictures(config.lr))}
    pictures = [_with_lr(folder, path, names, config) for folder, path in found]
    for picture in pictures:
        for scale, lr in picture.lr.items():
            _check_size(picture.hr, lr, scale)
    return pictures


def known_sizes(pictures: Sequence[Listed]) -> Iterator[Size]:
    """Yield the sizes of the originals by their headers, without those that cannot be read: they will be left out."""
    for picture in pictures:
        with suppress(InputError):
            yield picture_size(picture.hr)


def pick_range(found: Sequence[tuple[Path, Path]], span: tuple[int, int]) -> list[tuple[Path, Path]]:
    """Return the part of ``found`` from position ``span[0]`` to ``span[1]``, counted from 1, both included.

    Raises:
        InputError: there are not so many.
    """
    first, last = span
    if last > len(found):
        folders = ", ".join(dict.fromkeys(str(folder) for folder, _ in found))
        raise InputError(f"--range {first}-{last}: {folders} holds {len(found)} pictures; choose among those")
    return list(found[first - 1 : last])


def validation_part(folders: Sequence[Path], span: tuple[int, int]) -> list[Path]:
    """Return the pictures of ``folders`` at the positions of ``span``.

    Raises:
        InputError: there are not so many.
    """
    return [path for _, path in pick_range([(folder, path) for folder in folders for path in list_pictures(folder)], span)]


def _with_lr(folder: Path, hr: Path, names: Mapping[str, Path], config: DataConfig) -> Listed:
    name = hr.relative_to(folder).with_suffix("").as_posix()
    scales = dict.fromkeys(config.scales)
    lr = {}
    for scale in scales:
        candidates = [f"{name}x{scale}", f"X{scale}/{name}x{scale}", f"X{scale}/{name}"]
        candidates += [name] if len(scales) == 1 else []  # an equal name tells no scale
        known = [names[candidate] for candidate in candidates if candidate in names]
        if not known:
            raise InputError(
                f"--lr-dir {config.lr}: holds no x{scale} picture of {hr} (looked for {', '.join(candidates)}); "
                "add it, name another folder or leave the picture out with --range"
            )
        lr[scale] = known[0]
    return Listed(hr, lr)


def _check_size(hr: Path, lr: Path, scale: int) -> None:
    with suppress(InputError):
        common_size(picture_size(hr), picture_size(lr), scale, files=(hr, lr))
        return
    try:
        sizes = [read_rgb(path).shape[:2] for path in (hr, lr)]  # the header of a picture lying on its side may not tell
    except InputError:
        return  # it is named and left out when it is decoded
    common_size((sizes[0][0], sizes[0][1]), (sizes[1][0], sizes[1][1]), scale, files=(hr, lr))


def common_size(hr: Size, lr: Size, scale: int, *, files: tuple[Path, Path]) -> Size:
    """Return the size of the part of a low-resolution picture that the original holds.

    The original may be larger by less than ``CUT`` pixels at the bottom and on the right, and smaller by less than ``scale``:
    MATLAB's ``imresize`` rounds the size up. The upper left corners are at the same place in all of these cases.

    Raises:
        InputError: the sizes do not fit.
    """
    if not all(-scale < n - scale * m < max(CUT, scale) for n, m in zip(hr, lr, strict=True)):
        raise InputError(
            f"{files[1]}: {lr[1]}x{lr[0]} pixels is no x{scale} picture of {files[0]} ({hr[1]}x{hr[0]} pixels), "
            f"{hr[1] // scale}x{hr[0] // scale} are needed; name the folder of x{scale} pictures with --lr-dir"
        )
    return min(hr[0] // scale, lr[0]), min(hr[1] // scale, lr[1])
