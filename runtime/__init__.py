"""Running engines on pictures: everything here works without torch and without onnx."""
