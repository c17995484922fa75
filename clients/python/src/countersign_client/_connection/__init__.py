"""One connection: its socket, its authentication, whether it is alive, and when the next one is made."""
