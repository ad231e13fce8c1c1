"""Story information made from raw books by an agent, in the form of the published task."""
