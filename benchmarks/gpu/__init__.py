"""What a scan gains from a graphics card: correct first, then fast, beside what the card can do."""
