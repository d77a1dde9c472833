"""What a video is called, where its result goes, and what containers and encoders are used: known without opening anything.

PyAV is not imported here, so that ``sr-infer`` for pictures needs none of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sr_deploy.errors import InputError

READ = frozenset(
    {
        *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".vob"),
        *(".wmv", ".asf", ".flv", ".ogv", ".3gp", ".mxf"),
    }
)
"""Suffixes of files that are taken for videos."""

FOUND = READ - {".ts"}
"""Those that are taken from folders: there, .ts is TypeScript as often as a recording."""

DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,h264,hevc,asf,flv,live_flv,ogg,mxf"
"""FFmpeg's readers that may be tried: none of them opens other files, as those of play lists do."""


@dataclass(frozen=True)
class Container:
    """How videos are written into files of one suffix."""

    format: str  # FFmpeg's name
    codec: str  # default encoder
    options: dict[str, str]  # with which a file that is not finished plays


_MOV = {"movflags": "hybrid_fragmented+delay_moov", "use_editlist": "1", "frag_duration": "500000", "flush_packets": "1"}
_MATROSKA = {"cluster_time_limit": "500", "flush_packets": "1"}

WRITTEN = {
    ".mp4": Container("mp4", "libx264", _MOV),
    ".m4v": Container("mp4", "libx264", _MOV),
    ".mov": Container("mov", "libx264", _MOV),
    ".mkv": Container("matroska", "libx264", _MATROSKA),
    ".webm": Container("webm", "libvpx-vp9", _MATROSKA),
    ".ts": Container("mpegts", "libx264", {"flush_packets": "1"}),
}
FALLBACK = ".mkv"  # holds everything that other containers hold

CRF = {"libx264": (51.0, 18.0), "libx265": (51.0, 20.0), "libvpx-vp9": (63.0, 24.0), "libsvtav1": (63.0, 24.0)}
"""Encoders of constant quality: the largest ``--crf``, and the default."""

MOST_CRF = max(most for most, _ in CRF.values())


def is_video(path: Path) -> bool:
    """Return whether a name has a video's suffix."""
    return path.suffix.lower() in READ


def video_name(video: Path, scale: int) -> str:
    """Return ``NAME_x2`` with the video's suffix, or .mkv where such files are not written."""
    suffix = video.suffix.lower()
    return f"{video.stem}_x{scale}{video.suffix if suffix in WRITTEN else FALLBACK}"


def check_named(output: Path) -> None:
    """Check the one file that is asked for as the result of a video.

    Raises:
        InputError: its suffix is none that videos are written in.
    """
    if output.suffix.lower() not in WRITTEN:
        raise InputError(f"{output}: videos are written as {', '.join(WRITTEN)}; choose one of them with -o, or name a folder")


def check_crf(crf: float | None) -> None:
    """Check a constant quality that some encoder takes; ``None`` is the encoder's usual one.

    Raises:
        InputError: none does.
    """
    if crf is not None and not 0.0 <= crf <= MOST_CRF:
        raise InputError(f"--crf {crf:g}: outside 0 to {MOST_CRF:g}; smaller is better, leave it out for the usual quality")


def quality_options(codec: str, crf: float | None) -> dict[str, str]:
    """Return the encoder's options for a constant quality: ``crf``, or the encoder's default here.

    Raises:
        InputError: the encoder has no such setting, or not so large a one.
    """
    if codec not in CRF:
        if crf is not None:
            raise InputError(f"--crf {crf:g}: {codec} has no constant quality; it serves {', '.join(CRF)}")
        return {}
    most, usual = CRF[codec]
    chosen = usual if crf is None else crf
    if not 0.0 <= chosen <= most:
        raise InputError(f"--crf {chosen:g}: {codec} takes 0 to {most:g}; smaller is better and larger in bytes")
    return {"crf": f"{chosen:g}", **({"b": "0", "row-mt": "1"} if codec == "libvpx-vp9" else {})}
