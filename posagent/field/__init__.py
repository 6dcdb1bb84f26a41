"""For field engineers' laptops: the other end of the serial line. Never imported on the terminal."""
