"""What is asked and acknowledged: what waits for its reply, and how fast it is sent."""
