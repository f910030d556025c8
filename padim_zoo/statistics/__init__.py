"""What is known of the normal images: samples and moments."""
