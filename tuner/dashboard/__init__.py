"""What users see of a run: rows for reports and pages, and progress in a terminal."""
