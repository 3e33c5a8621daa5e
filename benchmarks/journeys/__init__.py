"""What users do with the command line, a hundred ways: command, exit code, seconds and first line of the answer."""
