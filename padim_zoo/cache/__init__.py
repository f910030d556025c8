"""Files that can be made again: features and resized images of image files."""
