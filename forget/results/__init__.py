"""What a trial leaves behind, and pure functions of it."""
