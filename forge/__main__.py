"""`python -m forge`."""

from forge.cli.main import main

main()
