"""The offline half of Menny: from an empty folder to proven weights.

The book's seven steps are the modules `dataset`, `model`, `batching`, `loss`, `trainer` and
`evaluation`; step seven, deploying, is the `app` package. Run it with `python -m training`.

OpenBLAS, NumPy's own and MLX's, has one thread unless `OPENBLAS_NUM_THREADS` says otherwise. Two
gain little on matrices this small, wait for each other on a busy machine, and add in another order:
a proof in two processes would have other last digits. NumPy reads it when it is imported.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
