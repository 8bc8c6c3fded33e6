"""What a run writes to a cluster's Calico, and how it is taken back."""
