"""How well a model and the detector do on a user's recordings."""
