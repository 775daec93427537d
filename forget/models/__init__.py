"""Language models: where they come from, what is vetted, and how examples become batches."""
