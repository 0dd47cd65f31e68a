"""Drawing rollouts and grading them."""
