"""Fully connected CRF (Krähenbühl & Koltun 2011) over the permutohedral lattice (Adams, Baek & Davis 2010).

The entry point is `dense_crf.DenseCrf`. It has three equivalent engines: ``numba`` (compiled on first use, needs no C
compiler), ``torch`` (CPU and GPU, several images at once) and ``reference`` (pydensecrf, if it is installed).
"""
