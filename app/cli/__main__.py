"""`python -m app.cli`: the same as `menny`."""

from app.cli import main

main()
