"""One microphone's life, the batcher that serves them all, the supervisor that keeps them alive."""
