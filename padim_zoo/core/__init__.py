"""What everything rests on: errors, files written whole, memory, processors."""
