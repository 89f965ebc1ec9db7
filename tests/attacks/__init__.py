"""What is tried against the federation: one table of attacks and faults, run in memory."""
