"""Calico: modes and what they promise, how it is configured, and which path packets took."""
