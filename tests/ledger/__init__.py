"""Tests of the ledger's codecs, chain and audit."""
