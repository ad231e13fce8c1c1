"""Where episodes come from: each source gives the same three kinds of material for all stages."""
