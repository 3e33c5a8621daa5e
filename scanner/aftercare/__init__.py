"""What comes after the verdict: a repaired file, a guard against the recovered pattern, and fragile class pairs."""
