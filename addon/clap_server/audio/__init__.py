"""Sound in: sources, decoding, resampling, ring buffer, level. Knows nothing of models."""
