"""The figures that the project promises, measured as paired ratios or against a physical limit."""
