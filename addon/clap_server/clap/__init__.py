"""The model: text and audio in, embeddings out. Knows nothing of streams, labels or events."""
