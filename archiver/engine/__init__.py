"""Where partitions are worked on: in this process, or in a pool of them."""
