"""sr-deploy: super-resolution networks from training to a small, fast engine whose picture quality has been checked."""

__version__ = "0.1.0"
