"""The rules of an update as pure functions: no files, clock, sockets or logging."""
