"""Figures, drawn with plotly."""
