"""The built-in model: a small two-tower CLAP whose weights are in this folder."""
