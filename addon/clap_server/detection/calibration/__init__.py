"""How a margin becomes a score: fitted on sounds that are known, stored for later loads of the model."""
