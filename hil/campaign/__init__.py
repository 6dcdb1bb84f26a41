"""Power cuts of the virtual terminal, by the hundred: where they fall, what they lead to, a report."""
