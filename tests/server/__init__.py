"""Tests of the coordinator's rooms."""
