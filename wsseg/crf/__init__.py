"""Fully connected CRF (Krähenbühl & Koltun 2011) over the permutohedral lattice (Adams, Baek & Davis 2010).

`dense_crf.DenseCrf` is the door. Three engines compute the same: ``numba`` (compiled on first use, no compiler needed),
``torch`` (CPU and GPU, several images at once) and ``reference`` (pydensecrf, where it is installed).
"""
