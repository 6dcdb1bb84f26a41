"""The worker that tests a freshly booted system before it is committed."""
