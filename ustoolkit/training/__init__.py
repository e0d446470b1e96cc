"""Training: from records and a recipe to a run folder."""
