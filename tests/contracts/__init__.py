"""The contract: behaviours, a stateful machine and its oracle, gas, the committed build."""
