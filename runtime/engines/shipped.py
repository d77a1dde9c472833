"""The shipped engines, their measured quality, and which one is meant by a name or by none.

They lie here beside ``engines.json``, which holds of each what was measured and the digest of its file. ``make
engines`` makes both. Nothing heavy is imported here.

Where no engine is named, ``plain_l`` of the scale that is asked for is taken, x2 where none is. At a scale that it does not
serve, the engine with the highest PSNR is.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sr_deploy.errors import InputError, MachineError

FOLDER = Path(__file__).resolve().parent
INDEX = "engines.json"
USUAL_SCALE = 2
DEFAULT = "plain_l"
SHORT = {"m": "plain_m", "l": DEFAULT, "xl": "plain_xl", "photo": "plain_l_photo", "plain": DEFAULT}


@dataclass(frozen=True)
class Measured:
    """How the figures of an engine were measured."""

    data: str  # "set5: 5 pictures"
    command: str
    protocol: str  # of sr-eval
    reference: str  # the fp32 network it is compared with
    processor: str
    versions: dict[str, str]


@dataclass(frozen=True)
class Shipped:
    """One shipped engine, as ``engines.json`` has it."""

    name: str  # of its file, without .onnx
    sha256: str  # of its file, 64 digits
    bytes: int
    default_scale: int
    enlarges_before: bool  # the network reads an enlarged picture, so that it also takes one that is enlarged already (x1)
    psnr_db: dict[int, float]  # luma, by scale
    fp32_psnr_db: dict[int, float]  # of the network it was made from
    measured: Measured

    @property
    def scales(self) -> tuple[int, ...]:
        """The factors it was trained for."""
        return tuple(sorted(self.psnr_db))

    def serves(self, scale: int) -> bool:
        """Return whether it enlarges ``scale`` times."""
        return scale in self.psnr_db or (scale == 1 and self.enlarges_before)

    def quality_db(self, scale: int) -> float:
        """Return its PSNR at ``scale``; at x1, where none is measured, that of its default scale."""
        return self.psnr_db.get(scale, self.psnr_db[self.default_scale])

    def is_called(self, name: str) -> bool:
        """Return whether ``name`` is its name, the beginning of it up to an underscore (``edsr``), or short for it.

        A short name (``m``, ``l``, ``xl``, ``photo``) stands for one network at any scale: ``plain_l_x2`` is called ``l``,
        ``plain_l_photo_x2`` is not.
        """
        wanted = name.lower().removesuffix(".onnx")
        wanted = SHORT.get(wanted, wanted)
        if wanted in SHORT.values():
            return self.family == wanted
        return bool(wanted) and f"{self.name}_".startswith(f"{wanted}_")

    @property
    def family(self) -> str:
        """Its name without the scale and what follows it: ``plain_l`` of ``plain_l_x2_qat_int8``."""
        return re.sub(r"_x\d.*", "", self.name)

    def path(self, folder: Path = FOLDER) -> Path:
        """Return its file, once its digest was compared.

        Raises:
            MachineError: the file is missing or is not the one that was shipped.
        """
        path = folder / f"{self.name}.onnx"
        try:
            found = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as err:
            raise MachineError(
                f"{path}: an engine of sr-deploy cannot be read ({err.strerror}); install sr-deploy again"
            ) from err
        if found != self.sha256:
            raise MachineError(
                f"{path}: an engine of sr-deploy is damaged (SHA-256 {found[:12]}, {INDEX} says {self.sha256[:12]}); "
                "install sr-deploy again"
            )
        return path


def shipped_engines(folder: Path = FOLDER) -> tuple[Shipped, ...]:
    """Return the engines that ``engines.json`` in ``folder`` lists: the default's family first, each by name.

    Raises:
        MachineError: it is missing or damaged.
    """
    try:
        entries = json.loads((folder / INDEX).read_bytes())["engines"]
        return tuple(sorted((_shipped(entry) for entry in entries), key=_place))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as err:
        raise MachineError(f"{folder / INDEX}: cannot be read ({err}); install sr-deploy again") from err


def _place(engine: Shipped) -> tuple[bool, bool, str]:
    return not engine.name.startswith("plain_"), engine.family != DEFAULT, engine.name


def _shipped(entry: dict[str, object]) -> Shipped:
    by_scale = {name: {int(k): float(v) for k, v in dict(entry[name]).items()} for name in ("psnr_db", "fp32_psnr_db")}  # type: ignore[call-overload]
    found = Shipped(**{**entry, **by_scale, "measured": Measured(**entry["measured"])})  # type: ignore[arg-type]
    if found.default_scale not in found.psnr_db:
        raise ValueError(f"{found.name}: no figure at its default scale")
    return found


def engine_path(asked: str | os.PathLike[str] | None = None, scale: int | None = None, *, folder: Path = FOLDER) -> Path:
    """Return the file of the engine that is asked for: a path, the name of a shipped engine, or the default.

    A file of that name always comes first; what holds a slash is never a name.

    Raises:
        InputError: no such file and no engine of that name, or none that serves ``scale``.
        MachineError: the engine's file is damaged.
    """
    text = None if asked is None else os.fspath(asked)
    if text is not None and (os.path.isfile(text) or os.path.dirname(text)):  # noqa: PTH113, PTH120 -- never raises
        return Path(text)
    return choose(shipped_engines(folder), text, scale).path(folder)


def engine_file(path: Path, scale: int | None = None) -> Path:
    """Return the file of a shipped engine if ``path`` is its name, without a suffix; else ``path`` itself.

    A name that stands for several engines is that of the one for ``scale``, x2 where none is given.

    With a suffix a file is meant: one that is missing must not be judged by another of its name.

    Raises:
        InputError: no engine of that name.
        MachineError: the engine's file is damaged.
    """
    return path if path.suffix else engine_path(path, scale)


def choose(engines: Sequence[Shipped], name: str | None, scale: int | None) -> Shipped:
    """Return the best of ``engines`` that are called ``name`` at ``scale`` (x2, or what they serve); without a name the default.

    Raises:
        InputError: there is none.
    """
    known = [engine for engine in engines if name is None or engine.is_called(name)]
    if not known:
        raise InputError(
            f"{name}: no such file, and no shipped engine is called so; "
            f"name a file made by sr-export, or one of {', '.join(engine.name for engine in engines)} (sr-infer --list)"
        )
    wanted = USUAL_SCALE if scale is None else scale
    if scale is None and not any(engine.serves(wanted) for engine in known):
        wanted = min(engine.default_scale for engine in known)
    serving = [engine for engine in known if engine.serves(wanted)]
    if not serving:
        asked = f"scale {wanted}" if name is None else f"{name} at scale {wanted}"
        raise InputError(f"{asked}: {_offers(engines, known)}, not x{wanted}; choose another scale or engine")
    usual = [engine for engine in serving if name is None and engine.family == DEFAULT]
    return max(usual or serving, key=lambda engine: engine.quality_db(wanted))


def has_photo_engine(path: Path, scale: int, *, folder: Path = FOLDER) -> bool:
    """Return whether ``photo`` serves ``scale`` where ``path`` is another engine of its family, trained on clean pictures.

    Raises:
        MachineError: ``engines.json`` is damaged.
    """
    if path.parent != folder or not path.name.startswith("plain_"):
        return False
    photo = [engine for engine in shipped_engines(folder) if engine.is_called("photo") and engine.serves(scale)]
    return path.stem not in [engine.name for engine in photo] and bool(photo)


def _offers(engines: Sequence[Shipped], known: Sequence[Shipped]) -> str:
    shown = [f"{engine.name} serves {' '.join(f'x{scale}' for scale in engine.scales)}" for engine in known or engines]
    return ", ".join(shown)
