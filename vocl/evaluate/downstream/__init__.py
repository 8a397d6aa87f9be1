"""What slots are good for once they are learned: evaluations of tasks beyond segmentation."""
