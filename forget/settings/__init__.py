"""Settings of a study: frozen, read from TOML, refused in one sentence where they are wrong."""
