"""Training: one loop for one student or many, the teacher's pass they share, and everything that survives a kill."""
