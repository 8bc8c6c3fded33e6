"""pytest hooks only; each is a few lines."""
