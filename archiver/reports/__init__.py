"""What people and monitoring read: the run report, the status, the plan."""
