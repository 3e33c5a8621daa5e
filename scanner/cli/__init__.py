"""The command line: options, configuration file, several models, output, exit code, baseline, demo, inspect."""
