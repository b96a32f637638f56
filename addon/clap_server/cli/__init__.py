"""The command line: serve, classify, evaluate."""
