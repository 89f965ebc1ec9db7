"""The contract: behaviours, the stateful machine against its oracle, gas and the committed build."""
