"""Methods of forgetting: a file a family, and a catalogue by name."""
