"""The offline half of Menny: from an empty folder to proven weights.

The book's seven steps are the modules `dataset`, `model`, `batching`, `loss`, `trainer` and
`evaluation`; step seven, deploying, is the `app` package. Run it with `python -m training`.
"""
