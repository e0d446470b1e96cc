"""From a trained model and images to masks, overlays, and the tables of an evaluation."""
