"""A server with one engine for all requests: ``python examples/server.py [PORT]``, then POST it a picture.

``curl --data-binary @photo.jpg http://127.0.0.1:8000 -o photo_x2.png``
"""

import io
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from sr_deploy import Upscaler
from sr_deploy.errors import InputError

UPSCALER = Upscaler(threads=4)  # shared by all threads
MOST_BYTES = 20_000_000


class Handler(BaseHTTPRequestHandler):
    """Answers a picture with the enlarged one, as PNG."""

    def do_POST(self) -> None:
        """Enlarge what was sent."""
        size = int(self.headers.get("Content-Length", 0))
        if not 0 < size <= MOST_BYTES:
            return self.send_error(413)
        try:
            image = ImageOps.exif_transpose(Image.open(io.BytesIO(self.rfile.read(size))))
            large = UPSCALER.upscale(np.asarray(image.convert("RGB")))
        except (InputError, UnidentifiedImageError, OSError) as err:
            return self.send_error(400, str(err).splitlines()[0])
        content = io.BytesIO()
        Image.fromarray(large).save(content, "PNG")
        self.send_response(200)
        self.send_header("Content-Type", "image/png")
        self.end_headers()
        self.wfile.write(content.getvalue())


port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
with UPSCALER, ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
