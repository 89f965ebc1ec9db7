"""Stops the program at every durable step, and checks that nothing was lost."""
