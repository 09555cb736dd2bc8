"""`python -m cli` is `ctl`."""

from cli.main import main

main()
