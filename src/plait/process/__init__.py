"""One process that runs an application: signals, the loop, exit codes, the runner."""
