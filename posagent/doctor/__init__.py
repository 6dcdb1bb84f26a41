"""What an integrator gets wrong on a new board, looked for; started by `posagent doctor` alone."""
