"""Pictures of predictions; a run store as an HTML page, or as plots."""
