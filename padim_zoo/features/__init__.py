"""Feature maps, patch embeddings, reductions and anomaly maps."""
