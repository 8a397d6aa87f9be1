"""Pictures of segmentations: overlays, sheets, figures, and what trackers are shown."""
