"""What everyday sound does to a label, and so what a score means: how often it would be wrong."""
