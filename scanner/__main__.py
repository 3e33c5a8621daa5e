"""`python -m backscan.scanner`: the same as the command `scanner`."""

from backscan.scanner.cli import main

main()
