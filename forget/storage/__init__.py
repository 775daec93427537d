"""Folders, checksums, locks and remotes: where what trials share and leave is kept."""
