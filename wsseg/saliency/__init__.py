"""Pure tensor code: from a network to seeds."""
