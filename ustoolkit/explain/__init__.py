"""What a network has learned, and why it decides as it does."""
