"""Base job templates of pools whose flows run in containers: Prefect's own, with this project's image and bounds."""
