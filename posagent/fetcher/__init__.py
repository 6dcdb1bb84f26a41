"""The networked worker: moves bytes into the spool."""
