"""RGB-D frames: files, transforms, query points, batches."""
