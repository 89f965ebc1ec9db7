"""End to end: real anvil, Flower and the command line."""
