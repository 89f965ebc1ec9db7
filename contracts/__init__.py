"""Solidity contract, its build and its committed artefact."""
