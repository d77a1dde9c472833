"""Training data: pairs of patches from pictures, from folders of pairs, from HDF5 files.

What is cut from which picture depends on the seed and the step alone, so that an interrupted run continues to the bit.

Begin with ``config.py``, the settings; then ``batches.py``, where batches come from. ``picture_patches.py`` cuts from pictures,
``hdf5_patches.py`` takes from files; ``damage.py`` is ``--degrade``.
Imports no other room of ``train``; ``train/options.py`` is what can be asked for.
"""
