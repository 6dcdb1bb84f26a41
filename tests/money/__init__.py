"""Generated batches of money through updates that lose their power."""
