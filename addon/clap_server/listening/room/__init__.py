"""What a microphone learns of its own room's everyday sound: embeddings, never sound."""
