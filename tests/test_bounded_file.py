"""What decoding a file may take beside its pixels: little memory, and nothing on standard error."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

from PIL import Image

from sr_deploy.bounded_file import BoundedFile
from sr_deploy.pictures import open_picture


def test_a_length_that_a_file_declares_takes_no_memory(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    tracemalloc.start()
    try:
        with BoundedFile(tmp_path / "a") as stream:
            assert stream.read(2**34) == b"0123456789"
            assert stream.read(2**34) == b""
            stream.seek(8)
            assert (stream.read(1), stream.read(), stream.read(None)) == (b"8", b"9", b"")
            stream.seek(2**40)
            assert stream.read(5) == b""
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_picture_whose_chunk_declares_gigabytes_takes_no_memory(tmp_path: Path) -> None:
    Image.new("1", (13, 11)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    at = content.index(b"IDAT") - 4
    (tmp_path / "a.png").write_bytes(content[:at] + b"\x7f\xff\xff\xff" + content[at + 4 :])
    tracemalloc.start()
    try:
        open_picture(tmp_path / "a.png")  # all its pixels are there
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_a_broken_tiff_writes_nothing_of_its_own(tmp_path: Path) -> None:
    Image.effect_noise((40, 30), 60).save(tmp_path / "a.tif", compression="tiff_lzw")
    content = bytearray((tmp_path / "a.tif").read_bytes())
    content[8:40] = bytes(32)
    (tmp_path / "a.tif").write_bytes(content)
    script = "import sys; from pathlib import Path; from sr_deploy.pictures import open_picture; open_picture(Path(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "a.tif")], capture_output=True, check=False)
    lines = done.stderr.decode().splitlines()
    assert lines[0].startswith("Traceback") and "InputError" in lines[-1]
    assert not [line for line in lines if "TIFF" in line.split(":")[0]]
