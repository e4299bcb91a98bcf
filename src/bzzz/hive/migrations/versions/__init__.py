"""The steps, oldest first; each upgrades and downgrades with data in place."""
