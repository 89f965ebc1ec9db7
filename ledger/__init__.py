"""What every party shares: canonical bytes, keys, the chain adapter and the audit."""
