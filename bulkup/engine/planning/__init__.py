"""A plan: which entities it handles, and what is learnt from what their handlers ask for."""
