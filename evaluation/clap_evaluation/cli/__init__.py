"""What ``clap-server`` can do once this package is installed: evaluate, calibrate."""
