"""Language models: where they come from, what is vetted of them, and how examples become their batches."""
