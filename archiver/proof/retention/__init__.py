"""What may go and what must stay: rules, holds, the plan; what stands in the place of what is gone."""
