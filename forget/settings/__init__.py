"""Settings of a study: frozen, read from TOML, and refused in one sentence where they are wrong."""
