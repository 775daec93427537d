"""What a study is: its settings, frozen, read from TOML, and refused with one sentence where they are wrong."""
