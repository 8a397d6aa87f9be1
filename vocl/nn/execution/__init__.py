"""How a network's arithmetic runs on a device: how precise, how much at a time, compiled or not."""
