"""The one training loop, what it learns, and the checkpoints it goes on from."""
