"""Domains make problems, render them as text, measure features and judge answers."""
