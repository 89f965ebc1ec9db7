"""Phantoms, partitions and whole federations on one machine."""
