"""Commands that measure the scanner: attacks, victims, accuracy and speed. Never installed."""
