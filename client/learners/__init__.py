"""Model families, one a file, behind one interface."""
