"""From a checkpoint to graphs: fp32, fp16 and int8 ONNX files that every engine can read."""
