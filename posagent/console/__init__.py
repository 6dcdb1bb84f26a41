"""The field engineer's serial line."""
