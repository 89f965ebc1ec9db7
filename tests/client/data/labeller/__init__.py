"""Labelling of radiology reports: tests."""
