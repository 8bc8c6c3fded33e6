"""Network SLO assertions for Kubernetes clusters that run Calico, as ordinary pytest tests."""

__version__ = "0.1.0"
