"""Calico: modes and what they promise, the installation, pools, proof of path, restore."""
