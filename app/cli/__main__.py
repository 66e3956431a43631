"""`python -m app.cli`: the same as `menny`."""

from app.cli.serve import main

main()
