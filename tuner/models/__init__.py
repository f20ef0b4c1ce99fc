"""Select, retrain and read models."""
