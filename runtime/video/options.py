"""What the user decides about videos; known without PyAV."""

from __future__ import annotations

from dataclasses import dataclass

from sr_deploy.options import MAX_PIXELS, check_positive
from sr_deploy.runtime.video.names import check_crf


@dataclass(frozen=True)
class VideoOptions:
    """How videos are enlarged and written; whether an encoder takes ``crf`` is known when the encoder is."""

    codec: str | None = None  # None: the container's usual one
    crf: float | None = None  # None: the encoder's usual one
    overwrite: bool = False
    overlap: bool = True  # every stage in its own thread
    max_pixels: int = MAX_PIXELS  # of a frame; a video of larger ones is rejected

    def __post_init__(self) -> None:
        """Raise ``InputError`` where a value is outside its range."""
        check_crf(self.crf)
        check_positive(max_pixels=self.max_pixels)


USUAL = VideoOptions()
