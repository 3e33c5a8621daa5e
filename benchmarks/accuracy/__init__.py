"""Detection and false-alarm rates on victims: scans, rows, ways of judging, tables."""
