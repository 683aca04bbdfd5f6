"""Scores, plots, tables and pages."""
