"""Radiographs and labels, from files to checked, patient-wise records."""
