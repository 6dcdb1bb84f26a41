"""The resident: keeps the journal, decides, and asks workers to act."""
