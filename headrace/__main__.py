"""Run the command line by `python -m headrace`."""

from headrace.cli import main

main()
