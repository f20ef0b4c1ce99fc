"""Offline AutoML for edge devices: search, select, retrain and export models that fit."""
