"""The other end of the serial line: posagent-field on an engineer's laptop. Never imported on the terminal."""
