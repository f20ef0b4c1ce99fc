"""Costs known before training: operators, arena, flash, latency, training; numpy only."""
