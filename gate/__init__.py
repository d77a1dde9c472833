"""Measuring engines and checkpoints on pictures, and refusing what lost too much."""
