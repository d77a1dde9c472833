"""Public files of weights that a metric or a loss needs: found in torch's cache, or downloaded into it.

Names of such files end in the first digits of their SHA-256 (``alexnet-owt-7be5be79.pth``), which are compared with what they
hold. A server that does not answer is given up after ``ANSWER_S`` seconds: torch's own download waits as long as the system does.
"""

from __future__ import annotations

import hashlib
import re
import sys
from http.client import HTTPException, HTTPResponse
from pathlib import Path
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
        return path
    by_hand = f"fetch {address} and put it into {path.parent}"
    try:
        with urlopen(address, timeout=ANSWER_S) as response:
            print(f"downloading {address} to {path}", file=sys.stderr)
            with replacing(path) as temporary:
                save(response, temporary, address)
                check_digits(temporary, path.name, advice=by_hand)
    except (OSError, HTTPException) as err:
        raise MachineError(f"{path.name} cannot be downloaded ({reason_of(err)}); {by_hand}") from err
    return path


def save(response: HTTPResponse, path: Path, address: str) -> None:
    """Write the content of an answer to ``path``.

    Raises:
        MachineError: it broke off; not an ``OSError``, which would read as one of the disk.
    """
    blocks = -(-int(response.headers.get("Content-Length") or 0) // BLOCK)
    with progress(f"{address.rpartition('/')[2]} MiB", blocks) as advance, path.open("wb") as stream:
        while True:
            try:
                block = response.read(BLOCK)
            except (OSError, HTTPException) as err:
                raise MachineError(f"the download of {address} broke off ({reason_of(err)}); try again") from err
            if not block:
                break
            stream.write(block)
            advance()


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


def reason_of(error: OSError | HTTPException) -> str:
    """Return in one line why a request failed."""
    inner: object = error
    if isinstance(error, HTTPError):
        error.close()  # it holds the connection
    elif isinstance(error, URLError):
        inner = error.reason
    return one_line(str(inner)) or type(error).__name__
