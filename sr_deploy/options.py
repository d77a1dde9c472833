"""What every command's options have in common: mistakes are one line, and numbers are checked where they are read."""

from __future__ import annotations

import argparse
import difflib
import numbers
import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from types import UnionType
from typing import TYPE_CHECKING, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from sr_deploy import __version__
from sr_deploy.errors import InputError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Options = TypeVar("Options", bound=DataclassInstance)

NATIVE_SUMS = "compute int8 as this processor does: without VNNI its sums saturate (default: exact, the same on all)"
MOST_THREADS = 256
MAX_PIXELS = 500_000_000  # of a picture file, unless --max-pixels says otherwise
CHECKERS_ONLY = {"Provider": object, "Precision": str, "Shape": tuple[int, int, int, int]}  # not imported where options are read
PROVIDERS = ("auto", "cpu", "cuda", "tensorrt")  # of --provider


class Parser(argparse.ArgumentParser):
    """An ``ArgumentParser`` whose mistakes are one line, and which knows ``--version``."""

    def __init__(self, prog: str, description: str, *, elsewhere: Mapping[str, str] | None = None) -> None:
        """Describe a command; ``elsewhere`` says what is meant by options that other programs have for it."""
        self.elsewhere = elsewhere or {}
        super().__init__(prog=prog, description=description, allow_abbrev=False)
        self.add_argument("--version", action="version", version=f"%(prog)s {__version__}")

    def error(self, message: str) -> NoReturn:
        """End with exit code 2 and one line; an option that is unknown gets the one that was meant."""
        unknown = message.partition("unrecognized arguments: ")[2].split()
        option = next((word.partition("=")[0] for word in unknown if word.startswith("-")), "")
        if option not in self.elsewhere and re.match("-[a-z][0-9]", option):  # -s4
            option = option[:2]
        alike = difflib.get_close_matches(option, [*self._option_string_actions], n=1, cutoff=0.7) if option else []
        hint = f"{option}: {self.elsewhere[option]}; " if option in self.elsewhere else ""
        hint = hint or (f"did you mean {alike[0]}? " if alike else "")
        self.exit(2, f"{self.prog}: {message}; {hint}see {self.prog} --help\n")


def check_provider(provider: str) -> None:
    """Check where ONNX Runtime is to run.

    Raises:
        InputError: no such provider.
    """
    if provider not in PROVIDERS:
        raise InputError(f"provider={provider!r}: not one of {', '.join(PROVIDERS)}; leave it out for the best that is here")


def check_threads(threads: int | None) -> None:
    """Check a number of CPU threads; ``None`` is one for each core.

    Raises:
        InputError: outside 1 to 256.
    """
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise InputError(f"threads={threads}: not within 1 to {MOST_THREADS}; leave it out for one for each core")


def check_positive(**numbers: float | None) -> None:
    """Check numbers, given by their names, that are above 0 where they are not ``None``.

    Raises:
        InputError: one is not.
    """
    for name, number in numbers.items():
        if number is not None and not 0 < number < float("inf"):
            raise InputError(f"{name}={number}: not a number above 0; give another, or leave it out")


def check_natural(**numbers: float | None) -> None:
    """Check numbers, given by their names, that are at least 0 where they are not ``None``.

    Raises:
        InputError: one is not.
    """
    for name, number in numbers.items():
        if number is not None and not 0 <= number < float("inf"):
            raise InputError(f"{name}={number}: not a number of at least 0; give another, or leave it out")


def check_types(options: DataclassInstance) -> None:
    """Check that every field holds what its type says; lists are taken for tuples.

    Raises:
        InputError: one does not.
    """
    hints = get_type_hints(type(options), localns=dict(CHECKERS_ONLY))
    for field in fields(options):
        check_type(field.name, getattr(options, field.name), hints[field.name], str(field.type))


def check_type(name: str, value: object, hint: object, words: str) -> None:
    """Check that ``value`` is of the type ``hint``, which is called ``words``.

    Raises:
        InputError: it is not.
    """
    if not _fits(value, hint):
        raise InputError(f"{name}={reprlib.repr(value)}: is of type {type(value).__name__}; give {words}")


def _fits(value: object, hint: object) -> bool:
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value is not None  # what else is no choice is reported with the choices
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is tuple and isinstance(value, tuple | list):
        each = parts[:1] * len(value) if parts[-1] is Ellipsis else parts
        return len(each) == len(value) and all(map(_fits, value, each))
    if hint in (int, float):
        return isinstance(value, numbers.Integral if hint is int else numbers.Real) and not isinstance(value, bool)
    kind = origin or hint
    return isinstance(value, kind) if isinstance(kind, type) else True


def check_choice(name: str, value: str | None, known: Sequence[str]) -> None:
    """Check a word, given by its name, that is one of ``known`` where it is not ``None``.

    Raises:
        InputError: it is not.
    """
    if value is not None and value not in known:
        raise InputError(f"{name}={value!r}: not one of {', '.join(known)}; choose one of them")


def check_choices(options: DataclassInstance) -> None:
    """Check that every field of a ``Literal``, of several or of ``None``, holds one of its values.

    Raises:
        InputError: one does not.
    """
    for name, hint in get_type_hints(type(options)).items():
        known, value = choices_of(hint), getattr(options, name)
        wrong = [one for one in (value if isinstance(value, tuple) else (value,)) if known and one not in (*known, None)]
        if wrong:
            option = f"--{name.replace('_', '-')}"
            raise InputError(f"{option} {wrong[0]}: not known; choose among {', '.join(map(str, known))}")


def choices_of(hint: object) -> tuple[object, ...]:
    """Return the values of the ``Literal`` in a type, at any depth; none where there is no such."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    return tuple(choice for part in get_args(hint) for choice in choices_of(part))


def set_defaults_(p: argparse.ArgumentParser, kind: type[DataclassInstance]) -> None:
    """Give arguments the defaults that the fields of their names have in the dataclass ``kind``."""
    p.set_defaults(**{field.name: field.default for field in fields(kind) if field.default is not MISSING})


def options_from(kind: type[Options], arguments: argparse.Namespace, named: Mapping[str, str] | None = None) -> Options:
    """Return a ``kind`` whose fields are the arguments of their names, or of the names in ``named``; lists become tuples.

    Raises:
        InputError: ``kind`` takes them for a mistake.
    """
    values = {field.name: getattr(arguments, (named or {}).get(field.name, field.name)) for field in fields(kind)}
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def positive_int(text: str) -> int:
    """Return ``text`` as an integer of at least 1, for ``type=`` of an argument."""
    return _whole(text, 1)


def thread_count(text: str) -> int:
    """Return ``text`` as a number of threads, 1 to 256, for ``type=`` of an argument: more take minutes to start."""
    return _whole(text, 1, MOST_THREADS)


def worker_count(text: str) -> int:
    """Return ``text`` as a number of helping threads, 0 to 256, for ``type=`` of an argument."""
    return _whole(text, 0, 256)


def natural_int(text: str) -> int:
    """Return ``text`` as an integer of at least 0, for ``type=`` of an argument."""
    return _whole(text, 0)


def _whole(text: str, least: int, most: int | None = None) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if value < least:
        raise argparse.ArgumentTypeError(f"{text} is not at least {least}")
    if most is not None and value > most:
        raise argparse.ArgumentTypeError(f"{text} is more than {most}")
    return value


def positive_float(text: str) -> float:
    """Return ``text`` as a finite number above 0, for ``type=`` of an argument."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value
