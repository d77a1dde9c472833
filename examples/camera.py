"""Enlarge the frames of a video or a camera with OpenCV: ``python examples/camera.py VIDEO RESULT.mp4``.

The engine is loaded once, not once a frame. ``sr-infer VIDEO`` keeps sound, times and colours; this keeps none of them.
"""

import sys

import cv2
import numpy as np

from sr_deploy import Upscaler

camera = cv2.VideoCapture(sys.argv[1])  # 0 for the first camera
rate = camera.get(cv2.CAP_PROP_FPS)
writer: cv2.VideoWriter | None = None
with Upscaler("m") as upscaler:
    while True:
        worked, frame = camera.read()  # uint8, blue first
        if not worked:
            break
        large = np.ascontiguousarray(upscaler.upscale(frame[..., ::-1])[..., ::-1])
        if writer is None:
            size = (large.shape[1], large.shape[0])
            writer = cv2.VideoWriter(sys.argv[2], cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
        writer.write(large)
if writer is not None:
    writer.release()
