"""Making networks smaller: filter pruning with fine-tuning, and the thresholds of int8 quantization."""
