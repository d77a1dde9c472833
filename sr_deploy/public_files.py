"""Public files of weights that a metric or a loss needs: found in torch's cache, or downloaded into it.

Names of such files end in the first digits of their SHA-256 (``alexnet-owt-7be5be79.pth``), which are compared with what they
hold. Where there is no network, that is known after ``ANSWER_S`` seconds: torch's own download waits as long as the system does.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from sr_deploy.console import one_line
from sr_deploy.errors import MachineError
from sr_deploy.files import replacing
from sr_deploy.progress import progress

ANSWER_S = 10.0  # for the server to answer, and for each part of the file to come
BLOCK = 2**20
DIGITS = re.compile(r"-([0-9a-f]{8,64})\.[a-z]+$")


def cached_file(address: str, cache: Path) -> Path:
    """Return the file at ``address`` as it lies in torch's cache (``torch.hub.get_dir()``), downloaded if it is not there.

    Raises:
        MachineError: it cannot be downloaded, or it does not hold what its name says.
    """
    path = Path(cache, "checkpoints", address.rpartition("/")[2])
    if path.is_file():
        check_digits(path, path.name, advice=f"remove {path}")
    else:
        try:
            download(address, path)
        except (OSError, HTTPException) as err:
            raise MachineError(
                f"{path.name} cannot be downloaded ({reason_of(err)}); fetch {address} and put it into {path.parent}"
            ) from err
    return path


def check_digits(path: Path, name: str, *, advice: str) -> None:
    """Check that the SHA-256 of ``path`` begins with the digits in ``name``; a name without digits is no check.

    Raises:
        MachineError: it does not.
    """
    digits = DIGITS.search(name)
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    if digits is not None and not digest.hexdigest().startswith(digits[1]):
        raise MachineError(f"{name} is damaged (its SHA-256 begins with {digest.hexdigest()[: len(digits[1])]}); {advice}")


def download(address: str, path: Path) -> None:
    """Write the file at ``address`` to ``path``, whole and as its name says, or not at all.

    Raises:
        OSError: the server does not answer, or breaks off.
        HTTPException: it answers nonsense.
        MachineError: ``path`` cannot be written, or something else came.
    """
    with answer(address) as response:
        print(f"downloading {address} to {path}", file=sys.stderr)
        blocks = -(-int(response.headers.get("Content-Length") or 0) // BLOCK)
        with progress(f"{path.name} MiB", blocks) as advance, replacing(path) as temporary:
            with temporary.open("wb") as stream:
                for block in received(response, address):
                    stream.write(block)
                    advance()
            check_digits(temporary, path.name, advice=f"fetch {address} and put it into {path.parent}")


def answer(address: str) -> HTTPResponse:
    """Return the server's answer to a request for ``address``, its content not read yet.

    Raises:
        OSError: none came in ``ANSWER_S`` seconds, or it says no.
        HTTPException: it is no HTTP.
    """
    answers: SimpleQueue[HTTPResponse | OSError | HTTPException] = SimpleQueue()

    def ask() -> None:
        try:
            answers.put(urlopen(address, timeout=ANSWER_S))
        except (OSError, HTTPException) as err:
            if isinstance(err, HTTPError):
                err.close()  # it holds the connection
            answers.put(err)

    Thread(target=ask, daemon=True).start()  # a timeout of the socket does not bound the look-up of the name
    try:
        found = answers.get(timeout=ANSWER_S)
    except Empty:
        raise TimeoutError(f"no answer in {ANSWER_S:g} s") from None
    if isinstance(found, Exception):
        raise found
    return found


def received(response: HTTPResponse, address: str) -> Iterator[bytes]:
    """Yield the content of an answer in blocks.

    Raises:
        MachineError: it broke off; not an ``OSError``, which would read as one of the disk.
    """
    try:
        while block := response.read(BLOCK):
            yield block
    except (OSError, HTTPException) as err:
        raise MachineError(f"the download of {address} broke off ({reason_of(err)}); try again") from err


def reason_of(error: OSError | HTTPException) -> str:
    """Return in one line why a request failed."""
    inner = error.reason if isinstance(error, URLError) and not isinstance(error, HTTPError) else error
    return one_line(str(inner)) or type(error).__name__
