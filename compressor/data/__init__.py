"""Images and labels: where they come from, how they are split, and how batches of views are made of them."""
