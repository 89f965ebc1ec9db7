"""The coordinator: verification, the exact sum and the round."""
