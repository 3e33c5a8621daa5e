"""The child process in which files by strangers are handled: spawn, confinement, limits, messages, errors."""
