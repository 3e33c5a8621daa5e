"""False alarms of the tests on simulated and generated models."""
