"""What users see of a run: rows for reports and pages."""
