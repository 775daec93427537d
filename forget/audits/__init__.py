"""Audits: is what a model forgot gone, or only hidden? Each is a file, found by listing."""
