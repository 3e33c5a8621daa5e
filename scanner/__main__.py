"""`python -m backscan.scanner`: the same as the command `scanner`."""

from backscan.scanner.cli.app import main

main()
