"""The proof of crash safety: a medium that loses power, every cut of every run on it, and what must then hold."""
